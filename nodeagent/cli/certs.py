"""`nodeagent certs`: the certificates that this host's workloads speak by."""

import click

from nodeagent.cli.agent_api import ask, socket_option
from nodeagent.cli.render import duration, headers_option, instant, now, output_option, show_json, show_table, warn
from nodeagent.control.report import CertificatePart, CertsAnswer

HEADERS = ("SERVICE", "STATE", "ENDS", "IN", "ROOT", "SERIAL", "SPIFFE ID")
_ID_CHARS = 16


@click.command()
@headers_option
@output_option
@socket_option
def certs(*, no_headers: bool, output: str, socket_path: str | None) -> None:
    """Certificates held by the agent; keys are never shown."""
    answer = ask("/v1/certs", CertsAnswer, socket_path=socket_path)
    if output == "json":
        show_json(answer)
        return
    if not answer.trust_domain:
        warn("the mesh's roots are not known yet; see: nodeagent status")
    show_table(HEADERS, [table_row(part, now()) for part in answer.certificates], no_headers=no_headers)
    for part in answer.certificates:
        if part.error or part.lost:
            warn(f"{part.service}: {'; '.join(filter(None, (part.lost, part.error)))}")
    if any(part.root not in ("", answer.active_root) for part in answer.certificates):
        warn(f"the root is being replaced: {answer.active_root[:_ID_CHARS]} signs now")


def table_row(part: CertificatePart, at: float) -> list[str]:
    """The cells for one certificate; `at` in Unix seconds."""
    left = duration(part.not_after - at) if part.not_after > at else "-"
    root = part.root[:_ID_CHARS] or "-"
    return [part.service, part.state, instant(part.not_after), left, root, part.serial or "-", part.spiffe_id or "-"]
