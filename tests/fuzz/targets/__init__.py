"""Every parser as a function of bytes: True where they were taken, False where they were refused in our own words.

Anything else that happens (another exception, a broken promise) is a defect. The functions are fed by pytest (the corpus,
and what hypothesis makes of it) and by `script/fuzz` (what a coverage-guided fuzzer makes of it).
"""

from collections.abc import Callable

from tests.fuzz.targets import catalog, files, http1, identity, kernel, policy, requests, wire

Target = Callable[[bytes], bool]

TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        wire.client_hello, wire.connect_request, wire.connect_answer, wire.http2_server, wire.http2_client, wire.frames,
        wire.worker_requests, wire.capture_file,
        files.configuration, files.saved_catalog, files.saved_flows, files.saved_modes, files.snapshot, files.delta,
        files.intercept_record, files.handover, files.kept_keys,
        catalog.catalog_answer, catalog.kept_intentions, catalog.catalog_body, catalog.catalog_query, catalog.filter,
        kernel.netlink, kernel.conntrack, kernel.sock_diag, kernel.socket_listing, kernel.cgroup, kernel.mountinfo,
        kernel.nft_table,
        identity.spiffe_id, identity.server_name, identity.certificate, identity.signing_request, identity.roots,
        identity.selector, identity.address,
        policy.policy_file, policy.policy_trail,
        http1.http1_requests, http1.http1_answers,
        requests.request_path, requests.request_fields,
    )
}  # fmt: skip
