"""Leaf certificates: the right one proves its ID, every other is refused with a sentence."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA224
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateError
from certs.verify import LEAF_BYTES, RSA_BITS_MIN, peer_spiffe_id
from tests.unit.certs.minting import DOMAIN, NOW, WEB, key_usage, mint

UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
SECOND = timedelta(seconds=1)

BAD_LEAVES = {
    "no SAN": ({"uris": None}, "no subject alternative name"),
    "no URI": ({"uris": ()}, "0 URIs"),
    "two URIs": ({"uris": (WEB, WEB)}, "2 URIs"),
    "empty path": ({"uris": (f"spiffe://{DOMAIN}",)}, "a leaf's SPIFFE ID has a path"),
    "upper-case trust domain": ({"uris": (WEB.replace("consul", "CONSUL"),)}, "only a-z"),
    "percent": ({"uris": (WEB + "%31",)}, "only a-z"),
    "dot segment": ({"uris": (WEB + "/../db",)}, "not allowed"),
    "double slash": ({"uris": (WEB.replace("/svc/", "/svc//"),)}, "empty segment"),
    "trailing slash": ({"uris": (WEB + "/",)}, "empty segment"),
    "port": ({"uris": (WEB.replace("consul/", "consul:1/"),)}, "only a-z"),
    "userinfo": ({"uris": (WEB.replace("spiffe://", "spiffe://a@"),)}, "only a-z"),
    "query": ({"uris": (WEB + "?a=b",)}, "only a-z"),
    "too long": ({"uris": (WEB + "a" * 2048,)}, "longer than 2048"),
    "NUL": ({"uris": (WEB + "\0",)}, "only a-z"),
    "wildcard": ({"uris": (f"spiffe://{DOMAIN}/ns/default/dc/dc1/svc/*",)}, "only a-z"),
    "no subject, SAN not critical": ({"san_critical": False}, "not critical"),
    "CA:TRUE": ({"ca": True}, "is a CA's"),
    "keyCertSign": ({"usage": key_usage(digital_signature=True, key_cert_sign=True)}, "not a leaf's"),
    "cRLSign": ({"usage": key_usage(digital_signature=True, crl_sign=True)}, "not a leaf's"),
    "no digitalSignature": ({"usage": key_usage(key_agreement=True)}, "lacks digitalSignature"),
    "no key usage": ({"usage": False}, "no key usage"),
    "key usage not critical": ({"usage_critical": False}, "key usage is not critical"),
    "EKU without clientAuth": ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "lacks clientAuth"),
    "EKU without serverAuth": ({"purposes": (ExtendedKeyUsageOID.CLIENT_AUTH,)}, "lacks serverAuth"),
    "expired by 1 s": ({"ends": NOW - SECOND}, "expired at"),
    "not yet valid by 1 s": ({"begins": NOW + SECOND}, "not valid before"),
    "unknown critical extension": ({"extra": ((UNKNOWN, True),)}, "unknown critical extension 1.2.3.4.5"),
    "P-521": ({"key": ec.generate_private_key(ec.SECP521R1())}, "is not EC P-256"),
    "Ed25519": ({"key": ed25519.Ed25519PrivateKey.generate()}, "is not EC P-256"),
    "RSA-1024": ({"key": rsa.generate_private_key(65537, RSA_BITS_MIN // 2)}, "is not EC P-256"),
    "SHA-224": ({"digest": SHA224()}, "not signed with SHA-256"),
}


@pytest.mark.parametrize("case", BAD_LEAVES)
def test_bad_leaf_is_refused_with_a_sentence(case):
    departure, sentence = BAD_LEAVES[case]
    with pytest.raises(CertificateError, match=sentence):
        peer_spiffe_id(mint(**departure), NOW)


@pytest.mark.parametrize(
    "departure",
    [
        {},
        {"purposes": ()},
        {"ca": None},
        {"subject": "web", "san_critical": False},
        {"extra": ((UNKNOWN, False),)},
        {"key": ec.generate_private_key(ec.SECP384R1())},
        {"key": rsa.generate_private_key(65537, 2048)},
        {"ends": NOW},
    ],
    ids=str,
)
def test_right_leaf_proves_its_id(departure):
    assert str(peer_spiffe_id(mint(**departure), NOW)) == WEB


def test_other_kinds_of_names_do_not_disturb():
    """The standard allows DNS names and the like beside the one URI."""
    names = x509.SubjectAlternativeName([x509.DNSName("web"), x509.UniformResourceIdentifier(WEB)])
    assert str(peer_spiffe_id(mint(uris=None, extra=((names, True),)), NOW)) == WEB


SHA1_LEAF = base64.b64decode(
    "MIIBXDCCAQOgAwIBAgIUAnERtnXL8PjezPeo4UsVpastN5swCQYHKoZIzj0EATAPMQ0wCwYDVQQDDARzaGExMCAXDTI2MTEyMjA5MjkxM1oYDz"
    "IxMjYxMDI5MDkyOTEzWjAPMQ0wCwYDVQQDDARzaGExMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEdtyHCvk8tFX7YXRPqCqcuZGITkLXHmRm"
    "hC61i3J0QHqmEVJVN/kotURof5QqbLlJsjgYha+IwIBlSitUwRPZtqM8MDowDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwGgYDVR0RBB"
    "MwEYYPc3BpZmZlOi8vdGQvd2ViMAkGByqGSM49BAEDSAAwRQIhAO9JD4KhvebuvZGDFDhazJZLPDO+tj89TkKaCsF63uduAiAV+oE0ubZnsOgK"
    "PKJU0NqacZ92XBXpdK6qy3tNO7ztFA=="
)


def test_a_leaf_signed_with_sha1_is_refused():
    """Made with the openssl command: no library of today signs so any more."""
    with pytest.raises(CertificateError, match="not signed with SHA-256"):
        peer_spiffe_id(SHA1_LEAF, NOW)


def test_garbage_is_refused():
    with pytest.raises(CertificateError, match="not a certificate"):
        peer_spiffe_id(b"\x30\x03\x02\x01\x01", NOW)


def test_a_huge_certificate_is_refused_unread():
    with pytest.raises(CertificateError, match="larger than"):
        peer_spiffe_id(b"\x30" * (LEAF_BYTES + 1), NOW)


RIGHT = mint()


@given(st.integers(0, len(RIGHT) - 1), st.integers(1, 255))
def test_a_flipped_byte_gives_our_error_or_an_id_and_nothing_else(position, flip):
    broken = bytearray(RIGHT)
    broken[position] ^= flip
    try:
        proven = str(peer_spiffe_id(bytes(broken), NOW))
    except CertificateError:
        return
    assert proven.startswith("spiffe://")
