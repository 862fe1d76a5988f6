"""Who somebody is: SPIFFE IDs, server names, certificates, requests for them, selectors, addresses."""

import base64
import contextlib
from datetime import UTC, datetime

from certs.bundle import TrustBundle
from certs.csr import CSR_BYTES, requested_id, requested_key
from certs.errors import CertificateError
from certs.spiffe import parse_spiffe_id, service_id, service_name, service_of_sni, service_sni
from certs.svid import CHAIN_LENGTH, Svid, load_chain
from certs.verify import peer_spiffe_id
from nodeagent.control.trust import parse_roots
from nodeagent.errors import CatalogError
from nodeagent.model.address import parse_address
from nodeagent.model.workload import Workload, parse_selector

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TRUST_DOMAIN, DATACENTER = "mesh.example", "dc1"


def spiffe_id(data: bytes) -> bool:
    """A SPIFFE ID has one spelling; the service that it names has one ID."""
    text = data.decode(errors="surrogateescape")
    try:
        found = parse_spiffe_id(text)
        assert str(found) == text
        name = service_name(found, trust_domain=TRUST_DOMAIN, datacenter=DATACENTER)
    except CertificateError:
        return False
    assert service_id(TRUST_DOMAIN, DATACENTER, name) == found
    return True


def server_name(data: bytes) -> bool:
    """A server name names a service, and is the one that a caller sends for it."""
    text = data.decode(errors="surrogateescape")
    try:
        name = service_of_sni(text, datacenter=DATACENTER, trust_domain=TRUST_DOMAIN)
        assert service_sni(name, DATACENTER, TRUST_DOMAIN) == text
    except CertificateError:
        return False
    return True


def certificate(data: bytes) -> bool:
    """What a peer sent, as PEM's inside: a SPIFFE ID with a path, or a CertificateError. Also as a root and in a chain."""
    der = _der_in(data)
    pem = data.decode(errors="surrogateescape")
    for use in (lambda: TrustBundle(TRUST_DOMAIN, (pem,)), lambda: Svid.from_pem(pem, pem)):
        with contextlib.suppress(CertificateError):
            use()
    with contextlib.suppress(CertificateError):
        assert len(load_chain(pem)) <= CHAIN_LENGTH
    try:
        found = peer_spiffe_id(der, NOW)
    except CertificateError:
        return False
    assert found.path
    assert parse_spiffe_id(str(found)) == found
    return True


def _der_in(data: bytes) -> bytes:
    """The bytes between PEM's lines; the data itself where there are none."""
    lines = [line for line in data.split(b"\n") if not line.startswith(b"-----")]
    with contextlib.suppress(ValueError):
        return base64.b64decode(b"".join(lines), validate=True)
    return data


def signing_request(data: bytes) -> bool:
    """A request names one SPIFFE ID, or none, and proves its key; or it is a CertificateError."""
    pem = data.decode(errors="surrogateescape")
    try:
        requested_id(pem)
        requested_key(pem)
    except CertificateError:
        return False
    assert len(pem) <= CSR_BYTES
    return True


def roots(data: bytes) -> bool:
    """The mesh's roots in an answer of the catalog, or a CatalogError."""
    try:
        trust = parse_roots(data)
    except CatalogError:
        return False
    assert trust.active_id in trust.ids
    return True


def selector(data: bytes) -> bool:
    """A selector says again what was written, or is a ValueError."""
    text = data.decode(errors="surrogateescape")
    try:
        found = parse_selector(text)
    except ValueError:
        return False
    assert f"{found.kind}:{found.value}" == text
    assert not found.matches(Workload())
    return True


def address(data: bytes) -> bool:
    """An address that is parsed has one spelling and a port, or is a ValueError."""
    try:
        found = parse_address(data.decode(errors="surrogateescape"))
    except ValueError:
        return False
    assert parse_address(str(found)) == found
    assert 1 <= found.port <= 65535
    return True
