"""/v1/connect/ca and /v1/nodeagent/sign: the mesh's roots, and certificates for hosts."""

import secrets
import sqlite3

import msgspec

from certs.errors import CertificateError
from certs.serial import CHANCE_BYTES, tag_of, tagged_serial
from nodeagent.embedded.access import ReadMesh, SignFor
from nodeagent.embedded.asking import Answer, Ask, Server, Watch, watch
from nodeagent.embedded.authority import active_ca, id_to_sign, leaf_json, read_roots, roots_json
from nodeagent.embedded.body import shaped
from nodeagent.embedded.certified import ROOTS, Certified, note_certified, read_revoked
from nodeagent.embedded.refusal import BadRequest, StorageFailed
from nodeagent.observe.log import open_log


class _SignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr: str = msgspec.field(name="CSR")
    service: str = msgspec.field(name="Service", default="")


async def roots(ask: Ask) -> Watch:
    """GET /v1/connect/ca/roots."""
    ask.check(ReadMesh())
    ask.server.heard[ask.caller.accessor] = ask.number("index") or 0
    return watch((ROOTS,), lambda connection: _roots_answer(connection, ask.server.realm.trust_domain))


async def sign(ask: Ask) -> Answer:
    """PUT /v1/nodeagent/sign: a certificate for a service that the caller's token may speak for."""
    asked = shaped(await ask.json(), _SignRequest)
    server = ask.server
    spiffe_id, service = id_to_sign(asked.csr, asked.service, server.realm)
    ask.check(SignFor(service))
    ca, root_id = server.store.read(lambda connection: active_ca(connection, server.realm.trust_domain))
    now, serial = server.now(), tagged_serial(tag_of(ask.caller.accessor), secrets.token_bytes(CHANCE_BYTES))
    try:
        chain_pem = ca.sign(asked.csr, spiffe_id, server.leaf_ttl, now, serial=serial)
    except CertificateError as error:
        raise BadRequest(f"CSR: {error}") from None
    await _note(server, Certified(ask.caller.accessor, service, root_id, (now + server.leaf_ttl).timestamp()))
    made = leaf_json(chain_pem, service, spiffe_id)
    open_log().info("certificate_signed", service=service, host=ask.caller.node, serial=made["SerialNumber"])
    return Answer(made)


def _roots_answer(connection: sqlite3.Connection, trust_domain: str) -> Answer:
    return Answer(roots_json(read_roots(connection), trust_domain, [each.tag for each in read_revoked(connection)]))


async def _note(server: Server, made: Certified) -> None:
    """Remembers who holds what.

    A full disk must not end the mesh when its certificates do: the serial alone is enough to revoke them, and a step of a
    rotation, for which the rest is needed, takes room on the disk itself.
    """
    now = server.now().timestamp()
    try:
        await server.store.write(lambda change: note_certified(change, made, now))
    except StorageFailed as failure:
        open_log().error("certificate_not_noted", service=made.service, accessor=made.accessor, error=str(failure))
