"""Requests: what new_key_and_csr makes is accepted, everything doubtful is refused."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from certs.csr import CSR_BYTES, new_key_and_csr, requested_id, requested_key
from certs.errors import CertificateError
from certs.spiffe import parse_spiffe_id
from tests.unit.certs.minting import DOMAIN, WEB


def csr_pem(*names, key=None):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    key = key or ec.generate_private_key(ec.SECP256R1())
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode()


def test_new_request_asks_for_its_id_with_a_p256_key():
    made = new_key_and_csr(parse_spiffe_id(WEB))
    assert str(requested_id(made.csr_pem)) == WEB
    assert load_pem_private_key(made.key_pem.encode(), None).public_key() == requested_key(made.csr_pem)
    assert isinstance(requested_key(made.csr_pem).curve, ec.SECP256R1)


def test_repr_shows_no_key():
    assert repr(new_key_and_csr(parse_spiffe_id(WEB))) == "KeyAndCsr(key_pem=<redacted>)"


def test_a_request_may_name_nobody():
    assert requested_id(csr_pem()) is None


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((x509.UniformResourceIdentifier(WEB), x509.UniformResourceIdentifier(WEB)), "exactly one name"),
        ((x509.UniformResourceIdentifier(WEB), x509.DNSName("bank.example")), "exactly one name"),
        ((x509.DNSName("bank.example"),), "0 URIs"),
        ((x509.UniformResourceIdentifier("https://bank.example"),), "not a SPIFFE ID"),
    ],
)
def test_other_names_in_a_request_are_refused(names, sentence):
    with pytest.raises(CertificateError, match=sentence):
        requested_id(csr_pem(*names))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_that_the_mesh_does_not_take_is_refused(key):
    with pytest.raises(CertificateError, match="is not EC P-256"):
        requested_key(csr_pem(key=key))


def test_a_request_signed_with_another_key_is_refused():
    der = bytearray(
        x509.load_pem_x509_csr(csr_pem(x509.UniformResourceIdentifier(WEB)).encode()).public_bytes(Encoding.DER)
    )
    at = der.index(DOMAIN.encode())
    der[at] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(CertificateError, match="signature is wrong"):
        requested_id(forged)


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "\ud800"]
)
def test_garbage_is_refused(text):
    with pytest.raises(CertificateError, match="cannot be read"):
        requested_id(text)


def test_a_huge_request_is_refused_unread():
    with pytest.raises(CertificateError, match="larger than"):
        requested_id("a" * (CSR_BYTES + 1))
