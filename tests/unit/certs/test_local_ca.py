"""The CA: what it signs passes our own rules and OpenSSL's strictest, and it signs nothing else."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import TrustBundle
from certs.csr import new_key_and_csr, private_key_pem
from certs.errors import CertificateError
from certs.local_ca import BACKDATED, LocalCa, leaf_builder, signed_pem
from certs.rotation import Keep, next_step
from certs.spiffe import parse_spiffe_id
from certs.svid import Svid, load_chain
from certs.verify import peer_spiffe_id
from tests.unit.certs.minting import DOMAIN, NOW, WEB

DAY = timedelta(hours=24)
CA = LocalCa.create(DOMAIN, NOW)
WEB_ID = parse_spiffe_id(WEB)


def sign(ca=CA, spiffe_id=WEB_ID, ttl=DAY, now=NOW):
    return load_chain(ca.sign(new_key_and_csr(spiffe_id).csr_pem, spiffe_id, ttl, now))[0]


def test_leaf_passes_the_spiffe_rules_for_its_day():
    leaf = sign()
    assert peer_spiffe_id(leaf.public_bytes(Encoding.DER), NOW) == WEB_ID
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOW - BACKDATED, NOW + DAY)


@pytest.mark.parametrize(("ttl", "before"), [(4, 1), (10, 2), (90, 22), (240, 60), (86_400, 60)])
def test_a_short_life_begins_a_quarter_before_and_is_not_due_at_birth(ttl, before):
    """Else its holder asks for another at once, for ever."""
    leaf = sign(ttl=timedelta(seconds=ttl))
    assert leaf.not_valid_before_utc == NOW - timedelta(seconds=before)
    svid = Svid(WEB_ID, "01", leaf.not_valid_before_utc, leaf.not_valid_after_utc, "", "")
    late_in_its_second = NOW + timedelta(milliseconds=999)
    assert isinstance(next_step(svid, late_in_its_second, 0.0), Keep)


def test_serials_are_random():
    assert len({sign().serial_number for _ in range(8)}) == 8


def test_root_is_a_ca_with_the_domains_id_and_no_path():
    root = load_chain(CA.cert_pem)[0]
    san = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{DOMAIN}"]
    assert TrustBundle(DOMAIN, (CA.cert_pem,)).pem == CA.cert_pem


def test_the_name_signed_is_the_one_decided_not_the_one_asked_for():
    asked = new_key_and_csr(parse_spiffe_id(WEB.replace("web", "bank"))).csr_pem
    leaf = load_chain(CA.sign(asked, WEB_ID, DAY, NOW))[0]
    assert peer_spiffe_id(leaf.public_bytes(Encoding.DER), NOW) == WEB_ID


@pytest.mark.parametrize("text", ["spiffe://other.consul/web", f"spiffe://{DOMAIN}"])
def test_another_domain_or_the_domain_itself_is_never_signed(text):
    with pytest.raises(CertificateError, match="signs no certificate for"):
        CA.sign(new_key_and_csr(WEB_ID).csr_pem, parse_spiffe_id(text), DAY, NOW)


def test_a_leaf_never_outlives_its_root():
    late = load_chain(CA.cert_pem)[0].not_valid_after_utc - timedelta(minutes=5)
    assert sign(now=late).not_valid_after_utc == late + timedelta(minutes=5)


def test_an_ended_root_signs_nothing():
    with pytest.raises(CertificateError, match="root certificate is not valid"):
        sign(now=NOW + timedelta(days=3651))


def test_repr_shows_no_key():
    assert "PRIVATE KEY" not in repr(CA)


def test_an_rsa_key_is_signed_too():
    key = rsa.generate_private_key(65537, 2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    assert "BEGIN CERTIFICATE" in CA.sign(csr.public_bytes(Encoding.PEM).decode(), WEB_ID, DAY, NOW)


# --- the chain itself is OpenSSL's to verify: here it does, in memory, with the strictest flags it has ------------------


def shake_hands(tmp_path, root_pem, leaf, key_pem):
    """Both ends of a mutual TLS 1.3 handshake in memory; the server presents `leaf`."""
    now = datetime.now(UTC)
    ca = LocalCa.create(DOMAIN, now)
    made = new_key_and_csr(WEB_ID)
    contexts = []
    for number, (purpose, chain, key, trusted) in enumerate(
        [
            (ssl.PROTOCOL_TLS_CLIENT, ca.sign(made.csr_pem, WEB_ID, DAY, now), made.key_pem, root_pem),
            (ssl.PROTOCOL_TLS_SERVER, leaf, key_pem, ca.cert_pem),
        ]
    ):
        context = ssl.SSLContext(purpose)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=trusted)
        (tmp_path / f"{number}.pem").write_text(chain + key)
        context.load_cert_chain(tmp_path / f"{number}.pem")
        contexts.append(context)
    return _pump(*contexts)


def _pump(client_context, server_context):
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname="x")
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return peer_spiffe_id(client.getpeercert(binary_form=True), datetime.now(UTC))


def test_openssl_accepts_our_chain_under_its_strictest_rules(tmp_path):
    now = datetime.now(UTC)
    ca, made = LocalCa.create(DOMAIN, now), new_key_and_csr(WEB_ID)
    leaf = ca.sign(made.csr_pem, WEB_ID, DAY, now)
    assert Svid.from_pem(leaf, made.key_pem).spiffe_id == WEB_ID
    assert shake_hands(tmp_path, ca.cert_pem, leaf, made.key_pem) == WEB_ID


def test_openssl_refuses_a_leaf_of_another_root(tmp_path):
    now = datetime.now(UTC)
    made = new_key_and_csr(WEB_ID)
    leaf = LocalCa.create(DOMAIN, now).sign(made.csr_pem, WEB_ID, DAY, now)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, LocalCa.create(DOMAIN, now).cert_pem, leaf, made.key_pem)


def test_openssl_refuses_a_leaf_that_signs_another(tmp_path):
    """An SVID is no intermediate: what its key signs leads nowhere."""
    now = datetime.now(UTC)
    ca, made = LocalCa.create(DOMAIN, now), new_key_and_csr(WEB_ID)
    svid = ca.sign(made.csr_pem, WEB_ID, DAY, now)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WEB.replace("web", "bank"))])
    builder = leaf_builder(svid, key.public_key(), timedelta(minutes=5), now).subject_name(x509.Name([]))
    forged = signed_pem(builder.add_extension(names, critical=True), made.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, ca.cert_pem, forged + svid, private_key_pem(key))
