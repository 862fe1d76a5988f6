"""The catalog as the mesh's CA: its roots in the database, and which name a request is to be signed with."""

import hashlib
import sqlite3
import uuid
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.csr import requested_id
from certs.errors import CertificateError
from certs.local_ca import LocalCa
from certs.server import ServerRoot
from certs.spiffe import SpiffeId, service_id, service_name
from certs.svid import load_chain, serial_text
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest
from nodeagent.errors import CatalogError

ROOTS = "roots"


class Realm(NamedTuple):
    """What this catalog is the catalog of."""

    trust_domain: str
    datacenter: str


class Root(NamedTuple):
    """One root of the mesh, as stored."""

    id: str
    cert_pem: str
    key_pem: str
    active: bool
    create_index: int

    def __repr__(self) -> str:
        return f"Root({self.id!r}, active={self.active})"


def found_realm(change: Change, datacenter: str, now: datetime) -> Realm:
    """The realm of this database; on the first start it is made, with the CA and the listener's root.

    Raises:
        CatalogError: it was made for another datacenter, whose name is in every certificate.
    """
    row = change.connection.execute("SELECT trust_domain, datacenter FROM state").fetchone()
    if row is None:
        row = (f"{uuid.uuid4()}.consul", datacenter)
        change.connection.execute("INSERT INTO state VALUES (1, ?, ?, 1)", row)
        _add_root(change, LocalCa.create(row[0], now))
        listener = ServerRoot.create(now)
        change.connection.execute("INSERT INTO tls_root VALUES (1, ?, ?)", (listener.cert_pem, listener.key_pem))
    realm = Realm(*row)
    if realm.datacenter != datacenter:
        raise CatalogError(f"this catalog is of datacenter {realm.datacenter}: start it with that, not {datacenter}")
    return realm


def read_roots(connection: sqlite3.Connection) -> list[Root]:
    """All roots that hosts are to trust, the active one first."""
    rows = connection.execute(
        "SELECT id, cert_pem, key_pem, active, create_index FROM roots ORDER BY active DESC, create_index"
    )
    return [Root(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows]


def read_listener_root(connection: sqlite3.Connection) -> ServerRoot:
    """The root of the listener's own certificates."""
    return ServerRoot(*connection.execute("SELECT cert_pem, key_pem FROM tls_root").fetchone())


def active_ca(connection: sqlite3.Connection, trust_domain: str) -> LocalCa:
    """The CA that signs now."""
    root = read_roots(connection)[0]
    return LocalCa(trust_domain, root.cert_pem, root.key_pem)


def id_to_sign(csr_pem: str, service: str, realm: Realm) -> tuple[SpiffeId, str]:
    """The identity that a request is to be signed with, and its service.

    The request may name it, or leave it to `service`; where both do they must agree.

    Raises:
        BadRequest: not a request, no name at all, another realm's or a contradicting one.
    """
    try:
        asked = requested_id(csr_pem)
        if asked is None and not service:
            raise BadRequest("the CSR names no SPIFFE ID: give Service")
        name = service or service_name(asked or SpiffeId(realm.trust_domain, ""), **realm._asdict())
        expected = service_id(realm.trust_domain, realm.datacenter, name)
    except CertificateError as error:
        raise BadRequest(f"CSR: {error}") from None
    if asked is not None and asked != expected:
        raise BadRequest(f"CSR: it asks for {asked}, and the service {name} is {expected}")
    return expected, name


def leaf_json(chain_pem: str, service: str, spiffe_id: SpiffeId) -> dict[str, Any]:
    """A signed certificate as Consul's leaf endpoint shows it, without a private key: that never left its host."""
    leaf = load_chain(chain_pem)[0]
    return {
        "SerialNumber": serial_text(leaf.serial_number),
        "CertPEM": chain_pem,
        "Service": service,
        "ServiceURI": str(spiffe_id),
        "ValidAfter": _instant(leaf.not_valid_before_utc),
        "ValidBefore": _instant(leaf.not_valid_after_utc),
    }


def roots_json(roots: list[Root], trust_domain: str) -> dict[str, Any]:
    """The roots as Consul shows them."""
    return {
        "ActiveRootID": next((root.id for root in roots if root.active), ""),
        "TrustDomain": trust_domain,
        "Roots": [_root_json(root, trust_domain) for root in roots],
    }


def _root_json(root: Root, trust_domain: str) -> dict[str, Any]:
    certificate = load_chain(root.cert_pem)[0]
    key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return {
        "ID": root.id,
        "Name": "nodeagent catalog CA",
        "SerialNumber": serial_text(certificate.serial_number),
        "SigningKeyID": key_id.hex(":"),
        "ExternalTrustDomain": trust_domain.removesuffix(".consul"),
        "NotBefore": _instant(certificate.not_valid_before_utc),
        "NotAfter": _instant(certificate.not_valid_after_utc),
        "RootCert": root.cert_pem,
        "IntermediateCerts": [],
        "Active": root.active,
        "PrivateKeyType": "ec",
        "PrivateKeyBits": 256,
        "CreateIndex": root.create_index,
        "ModifyIndex": root.create_index,
    }


def _add_root(change: Change, ca: LocalCa) -> None:
    der = load_chain(ca.cert_pem)[0].public_bytes(Encoding.DER)
    root_id = hashlib.sha256(der).hexdigest()
    row = (root_id, ca.cert_pem, ca.key_pem, 1, change.index)
    change.connection.execute("INSERT INTO roots VALUES (?, ?, ?, ?, ?)", row)
    change.touch(ROOTS)


def _instant(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
