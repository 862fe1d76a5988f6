"""Trust bundles hold roots of their own trust domain, and nothing else."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.bundle import TrustBundle
from certs.csr import new_key_and_csr
from certs.errors import CertificateError
from certs.local_ca import LocalCa
from certs.server import ServerRoot
from certs.spiffe import parse_spiffe_id
from tests.unit.certs.minting import DOMAIN, NOW, WEB, key_usage, mint

OLD, NEW = LocalCa.create(DOMAIN, NOW), LocalCa.create(DOMAIN, NOW)


def as_pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def test_two_roots_overlap_during_a_rotation():
    bundle = TrustBundle(DOMAIN, (OLD.cert_pem, NEW.cert_pem.rstrip("\n")))
    assert bundle.pem.count("BEGIN CERTIFICATE") == 2
    assert bundle.pem.endswith("-----END CERTIFICATE-----\n")


def test_an_external_root_without_a_spiffe_id_is_taken():
    """Consul may use a CA that knows nothing of SPIFFE."""
    assert TrustBundle(DOMAIN, (ServerRoot.create(NOW).cert_pem,)).roots_pem


LEAF = OLD.sign(new_key_and_csr(parse_spiffe_id(WEB)).csr_pem, parse_spiffe_id(WEB), timedelta(hours=1), NOW)
NO_SIGNER = as_pem(mint(ca=True, uris=(f"spiffe://{DOMAIN}",)))
PATHED = as_pem(mint(ca=True, usage=key_usage(key_cert_sign=True)))


@pytest.mark.parametrize(
    ("roots", "sentence"),
    [
        ((), "is empty"),
        ((LEAF,), "not a CA's"),
        ((NO_SIGNER,), "not a CA's"),
        ((PATHED,), "says that it is"),
        ((LocalCa.create("other.consul", NOW).cert_pem,), "says that it is spiffe://other.consul"),
        ((OLD.cert_pem + NEW.cert_pem,), "2 certificates instead of one"),
        (("rubbish",), "cannot be read"),
    ],
)
def test_what_is_no_root_of_this_domain_cannot_be_in_it(roots, sentence):
    with pytest.raises(CertificateError, match=sentence):
        TrustBundle(DOMAIN, roots)


def test_a_bundle_is_of_a_valid_trust_domain():
    with pytest.raises(CertificateError, match="only a-z"):
        TrustBundle("Bad Domain", (OLD.cert_pem,))
