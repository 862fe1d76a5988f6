"""The CA: its realm is made once, and a request is signed with the decided name or not at all."""

from datetime import UTC, datetime, timedelta

import pytest

from certs.bundle import TrustBundle
from certs.csr import new_key_and_csr
from certs.spiffe import parse_spiffe_id, service_id
from certs.svid import Svid
from nodeagent.embedded.authority import (
    Realm,
    active_ca,
    found_realm,
    id_to_sign,
    leaf_json,
    read_listener_root,
    read_roots,
    roots_json,
)  # fmt: skip
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import BadRequest
from nodeagent.errors import CatalogError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REALM = Realm("11111111-0000-4000-8000-000000000000.consul", "dc1")


def csr_for(text):
    return new_key_and_csr(parse_spiffe_id(text)).csr_pem


WEB = str(service_id(*REALM, "web"))


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    yield made
    made.close()


def test_the_realm_is_made_once(connection):
    first, _ = commit(connection, lambda change: found_realm(change, "dc1", NOW))
    again, touched = commit(connection, lambda change: found_realm(change, "dc1", NOW))
    assert again == first
    assert touched == set()
    assert first.trust_domain.endswith(".consul")


def test_another_datacenter_is_refused(connection):
    commit(connection, lambda change: found_realm(change, "dc1", NOW))
    with pytest.raises(CatalogError, match="is of datacenter dc1"):
        commit(connection, lambda change: found_realm(change, "dc2", NOW))


def test_the_mesh_and_the_listener_have_different_roots(connection):
    realm, _ = commit(connection, lambda change: found_realm(change, "dc1", NOW))
    roots = read_roots(connection)
    assert [root.active for root in roots] == [True]
    assert (
        active_ca(connection, realm.trust_domain)[0].cert_pem
        == roots[0].cert_pem
        != read_listener_root(connection).cert_pem
    )
    assert "PRIVATE" not in repr(roots) + repr(read_listener_root(connection))


def test_roots_are_shown_as_consul_does_without_keys(connection):
    realm, _ = commit(connection, lambda change: found_realm(change, "dc1", NOW))
    shown = roots_json(read_roots(connection), realm.trust_domain, [])
    assert shown["TrustDomain"] == realm.trust_domain
    assert shown["ActiveRootID"] == shown["Roots"][0]["ID"]
    assert TrustBundle(realm.trust_domain, (shown["Roots"][0]["RootCert"],)).pem
    assert "PRIVATE" not in str(shown)


@pytest.mark.parametrize("service", ["", "web"])
def test_a_request_may_name_its_service(service):
    assert id_to_sign(csr_for(WEB), service, REALM) == (parse_spiffe_id(WEB), "web")


@pytest.mark.parametrize(
    ("text", "service", "sentence"),
    [
        (WEB, "db", "it asks for .*/svc/web, and the service db is .*/svc/db"),
        ("spiffe://other.consul/ns/default/dc/dc1/svc/web", "", "of trust domain other.consul"),
        ("spiffe://other.consul/ns/default/dc/dc1/svc/web", "web", "it asks for spiffe://other.consul"),
        (WEB.replace("dc1", "dc2"), "", "does not name a service of datacenter dc1"),
        (WEB.replace("/svc/web", "/svc/web/x"), "", "does not name a service"),
        (WEB, "we/b", "cannot be a service"),
    ],
)
def test_another_name_is_refused(text, service, sentence):
    with pytest.raises(BadRequest, match=sentence):
        id_to_sign(csr_for(text), service, REALM)


def test_garbage_is_refused():
    with pytest.raises(BadRequest, match="CSR: the CSR cannot be read"):
        id_to_sign("rubbish", "web", REALM)


def test_a_nameless_request_needs_a_service():
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM).decode()
    assert id_to_sign(csr, "web", REALM)[1] == "web"
    with pytest.raises(BadRequest, match="give Service"):
        id_to_sign(csr, "", REALM)


def test_a_leaf_is_shown_as_consul_does_without_a_key(connection):
    realm, _ = commit(connection, lambda change: found_realm(change, "dc1", NOW))
    spiffe_id = service_id(*realm, "web")
    made = new_key_and_csr(spiffe_id)
    chain = active_ca(connection, realm.trust_domain)[0].sign(made.csr_pem, spiffe_id, timedelta(hours=24), NOW)
    shown = leaf_json(chain, "web", spiffe_id)
    assert (shown["Service"], shown["ServiceURI"]) == ("web", str(spiffe_id))
    assert (shown["ValidAfter"], shown["ValidBefore"]) == ("2025-12-31T23:59:00Z", "2026-01-02T00:00:00Z")
    assert Svid.from_pem(shown["CertPEM"], made.key_pem).serial == shown["SerialNumber"]
    assert "PrivateKeyPEM" not in shown
