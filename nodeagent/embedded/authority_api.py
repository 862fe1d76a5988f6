"""/v1/connect/ca and /v1/nodeagent/sign: the mesh's roots, and certificates for hosts."""

import msgspec

from certs.errors import CertificateError
from nodeagent.embedded.access import ReadMesh, SignFor
from nodeagent.embedded.asking import Answer, Ask, Watch, watch
from nodeagent.embedded.authority import ROOTS, active_ca, id_to_sign, leaf_json, read_roots, roots_json
from nodeagent.embedded.body import shaped
from nodeagent.embedded.refusal import BadRequest
from nodeagent.observe.log import open_log


class _SignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr: str = msgspec.field(name="CSR")
    service: str = msgspec.field(name="Service", default="")


async def roots(ask: Ask) -> Watch:
    """GET /v1/connect/ca/roots."""
    ask.check(ReadMesh())
    return watch((ROOTS,), lambda c: Answer(roots_json(read_roots(c), ask.server.realm.trust_domain)))


async def sign(ask: Ask) -> Answer:
    """PUT /v1/nodeagent/sign: a certificate for a service that the caller's token may speak for."""
    asked = shaped(await ask.json(), _SignRequest)
    server = ask.server
    spiffe_id, service = id_to_sign(asked.csr, asked.service, server.realm)
    ask.check(SignFor(service))
    ca = server.store.read(lambda connection: active_ca(connection, server.realm.trust_domain))
    try:
        chain_pem = ca.sign(asked.csr, spiffe_id, server.leaf_ttl, server.now())
    except CertificateError as error:
        raise BadRequest(f"CSR: {error}") from None
    made = leaf_json(chain_pem, service, spiffe_id)
    open_log().info("certificate_signed", service=service, host=ask.caller.node, serial=made["SerialNumber"])
    return Answer(made)
