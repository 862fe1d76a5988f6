"""/v1/connect/ca and /v1/nodeagent/sign: the mesh's roots, and certificates for hosts."""

import secrets
import sqlite3
from typing import Annotated

import msgspec

from certs.errors import CertificateError
from certs.serial import CHANCE_BYTES, tag_of, tagged_serial
from nodeagent import limits
from nodeagent.embedded.access import NOBODY, ReadMesh, SignFor
from nodeagent.embedded.asking import Answer, Ask, Watch, watch
from nodeagent.embedded.authority import active_ca, id_to_sign, leaf_json, read_roots, roots_json
from nodeagent.embedded.body import shaped
from nodeagent.embedded.certified import (
    ROOTS,
    Certified,
    Held,
    correct,
    misremembered,
    note_certified,
    read_revoked,
)  # fmt: skip
from nodeagent.embedded.refusal import BadRequest, Forbidden, StorageFailed
from nodeagent.observe.log import open_log

_ID_CHARS = 128  # twice a root's id, and more than a serial


class _HeldCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    service: Annotated[str, msgspec.Meta(max_length=limits.CATALOG_NAME_CHARS)]
    serial: Annotated[str, msgspec.Meta(max_length=_ID_CHARS)]
    root: Annotated[str, msgspec.Meta(max_length=_ID_CHARS)]
    until: float


class _HeldRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    certificates: Annotated[tuple[_HeldCertificate, ...], msgspec.Meta(max_length=limits.CERTIFIED_PER_TOKEN)]


class _SignRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr: str = msgspec.field(name="CSR")
    service: str = msgspec.field(name="Service", default="")


async def roots(ask: Ask) -> Watch:
    """GET /v1/connect/ca/roots; with `?pem=1` their certificates alone, as a file for other programs."""
    ask.check(ReadMesh())
    index = ask.number("index")
    if index is not None and ask.caller == NOBODY:  # roots are public, as with Consul; who waits has a place, which is a token's
        raise Forbidden("to wait for the roots takes a token: send X-Consul-Token, or leave out ?index=")
    if index is not None:  # without one somebody looks, who may be another than the agent
        ask.server.heard[ask.caller.accessor] = index
    if ask.truth("pem", bare=False):
        return watch((ROOTS,), lambda c: Answer("".join(r.cert_pem for r in read_roots(c) if r.trusted).encode()))
    realm = ask.server.realm
    return watch((ROOTS,), lambda connection: _roots_answer(connection, realm.trust_domain), has_last_word=True)


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
    await _note(ask, Certified(ask.caller.accessor, service, root_id, (now + server.leaf_ttl).timestamp()))
    made = leaf_json(chain_pem, service, spiffe_id)
    open_log().info("certificate_signed", service=service, host=ask.caller.node, serial=made["SerialNumber"])
    return Answer(made)


async def held(ask: Ask) -> Answer:
    """PUT /v1/nodeagent/held: all certificates that the caller's host holds now; what it does not name it has lost."""
    node, store = ask.caller.node, ask.server.store
    if not node:
        raise BadRequest(f"{ask.caller} belongs to no host: hosts say what they hold, by their own tokens")
    body = await ask.json()
    asked = await ask.aside(lambda: shaped(body, _HeldRequest))
    rows = [Held(each.service, each.serial, each.root, each.until) for each in asked.certificates]
    if await store.read_aside(ask.caller.accessor, lambda connection: misremembered(connection, node, rows)):
        await ask.write(lambda change: correct(change, node, rows))
    return Answer(body=True)


def _roots_answer(connection: sqlite3.Connection, trust_domain: str) -> Answer:
    """With what was revoked, whoever asks: an agent whose token file is empty must not take it for nothing."""
    return Answer(roots_json(read_roots(connection), trust_domain, [each.tag for each in read_revoked(connection)]))


async def _note(ask: Ask, made: Certified) -> None:
    """Remembers who holds what.

    A full disk must not end the mesh when its certificates do: the serial alone is enough to revoke them, and a step of a
    rotation, for which the rest is needed, takes room on the disk itself.
    """
    now = ask.server.now().timestamp()
    try:
        await ask.write(lambda change: note_certified(change, made, now))
    except StorageFailed as failure:
        open_log().error("certificate_not_noted", service=made.service, accessor=made.accessor, error=str(failure))
