"""The catalog as the mesh's CA: its roots in the database, and which name a request is to be signed with."""

import sqlite3
import uuid
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509

from certs.csr import requested_id
from certs.errors import CertificateError
from certs.local_ca import LocalCa
from certs.server import ServerRoot
from certs.spiffe import SpiffeId, service_id, service_name
from certs.standing import fingerprint
from certs.svid import load_chain, serial_text
from nodeagent.embedded.certified import ROOTS
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.rotation import Root
from nodeagent.errors import CatalogError


class Realm(NamedTuple):
    """What this catalog is the catalog of."""

    trust_domain: str
    datacenter: str


def found_realm(change: Change, datacenter: str, now: datetime) -> Realm:
    """The realm of this database; on the first start it is made, with the CA and the listener's root.

    Raises:
        CatalogError: it was made for another datacenter, whose name is in every certificate.
    """
    row = change.connection.execute("SELECT trust_domain, datacenter FROM state").fetchone()
    if row is None:
        row = (f"{uuid.uuid4()}.consul", datacenter)
        change.connection.execute("INSERT INTO state VALUES (1, ?, ?, 1)", row)
        add_root(change, LocalCa.create(row[0], now), active=True)
        listener = ServerRoot.create(now)
        change.connection.execute("INSERT INTO tls_root VALUES (1, ?, ?)", (listener.cert_pem, listener.key_pem))
    realm = Realm(*row)
    if realm.datacenter != datacenter:
        raise CatalogError(f"this catalog is of datacenter {realm.datacenter}: start it with that, not {datacenter}")
    return realm


def read_roots(connection: sqlite3.Connection) -> list[Root]:
    """All roots, also one that is believed no more; the active one first."""
    rows = connection.execute(
        "SELECT id, cert_pem, key_pem, active, trusted, create_index, max(create_index, modify_index) FROM roots"
        " ORDER BY active DESC, create_index"
    )
    return [Root(row[0], row[1], row[2], bool(row[3]), bool(row[4]), row[5], row[6]) for row in rows]


def read_listener_root(connection: sqlite3.Connection) -> ServerRoot:
    """The root of the listener's own certificates."""
    return ServerRoot(*connection.execute("SELECT cert_pem, key_pem FROM tls_root").fetchone())


def active_ca(connection: sqlite3.Connection, trust_domain: str) -> tuple[LocalCa, str]:
    """The CA that signs now, and the id of its root."""
    root = read_roots(connection)[0]
    return LocalCa(trust_domain, root.cert_pem, root.key_pem), root.id


def add_root(change: Change, ca: LocalCa, *, active: bool) -> None:
    """Stores a root that is believed from now on."""
    row = (fingerprint(load_chain(ca.cert_pem)[0]), ca.cert_pem, ca.key_pem, int(active), change.index)
    change.connection.execute("INSERT INTO roots (id, cert_pem, key_pem, active, create_index) VALUES (?, ?, ?, ?, ?)", row)
    change.touch(ROOTS)


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


def roots_json(roots: list[Root], trust_domain: str, revoked: list[str]) -> dict[str, Any]:
    """The roots that hosts are to believe as Consul shows them, and the tags of revoked serials, which Consul has not."""
    return {
        "ActiveRootID": next((root.id for root in roots if root.active), ""),
        "TrustDomain": trust_domain,
        "Roots": [_root_json(root, trust_domain) for root in roots if root.trusted],
        "RevokedSerialTags": revoked,
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
        "ModifyIndex": root.modify_index,
    }


def _instant(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
