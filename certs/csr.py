"""Requests for a certificate: the key stays where it was made, the request proves that it exists."""

from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from certs.errors import CertificateError
from certs.spiffe import SpiffeId
from certs.verify import check_key, san_spiffe_id

CSR_BYTES = 16_384  # a request with one URI of 2,048 bytes and an RSA-4096 key is below 5 KiB


class KeyAndCsr(NamedTuple):
    """A new private key and the request that goes with it, both PEM. The key is not shown by `repr`."""

    key_pem: str
    csr_pem: str

    def __repr__(self) -> str:
        return "KeyAndCsr(key_pem=<redacted>)"


def new_key_and_csr(spiffe_id: SpiffeId) -> KeyAndCsr:
    """A new P-256 key and a request for a certificate that says `spiffe_id`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
    csr = builder.add_extension(names, critical=True).sign(key, SHA256())
    return KeyAndCsr(private_key_pem(key), csr.public_bytes(Encoding.PEM).decode())


def private_key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """`key` as unencrypted PKCS #8 text."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def requested_key(csr_pem: str) -> CertificatePublicKeyTypes:
    """The public key in `csr_pem`, of which the asker has proven to hold the private half.

    Raises:
        CertificateError: not a request, a wrong signature, or a key that the mesh does not take.
    """
    return check_key(_load_csr(csr_pem).public_key())


def requested_id(csr_pem: str) -> SpiffeId | None:
    """The SPIFFE ID that a request asks for; None when it names none.

    Raises:
        CertificateError: not a valid request, or names besides one SPIFFE ID.
    """
    csr = _load_csr(csr_pem)
    try:
        extensions = csr.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"the CSR's extensions cannot be read: {error}") from error
    if len(list(names)) != 1:
        raise CertificateError("the CSR must ask for exactly one name, the SPIFFE ID, or for none")
    return san_spiffe_id(extensions, san_must_be_critical=False)


def _load_csr(csr_pem: str) -> x509.CertificateSigningRequest:
    """The request in `csr_pem`, whose signature proves that the asker holds the key."""
    if len(csr_pem) > CSR_BYTES:
        raise CertificateError(f"a CSR of {len(csr_pem)} bytes is larger than {CSR_BYTES}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        proven = csr.is_signature_valid
        csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(f"the CSR cannot be read: {error}") from error
    if not proven:
        raise CertificateError("the CSR's signature is wrong: it was not made with the key it asks for")
    return csr
