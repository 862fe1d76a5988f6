"""An X.509 SVID in use: the certificate chain of a workload with its key."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from certs.errors import CertificateError
from certs.spiffe import SpiffeId
from certs.verify import leaf_spiffe_id

CHAIN_LENGTH = 8  # leaf and intermediates; Consul uses two, and a long chain costs every peer a signature check each


@dataclass(frozen=True, slots=True)
class Svid:
    """A leaf certificate, what stands above it, and the key. The key is not shown by `repr`."""

    spiffe_id: SpiffeId
    serial: str
    """As Consul writes it: hexadecimal bytes with colons."""
    not_before: datetime
    not_after: datetime
    chain_pem: str = field(repr=False)
    key_pem: str = field(repr=False)

    @classmethod
    def from_pem(cls, chain_pem: str, key_pem: str) -> "Svid":
        """The SVID whose chain (leaf first) and key these are.

        Raises:
            CertificateError: unreadable, against the rules for leaves, or the key is another one's.
        """
        leaf = load_chain(chain_pem)[0]
        spiffe_id = leaf_spiffe_id(leaf)
        if _public_bytes_of(key_pem) != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
            raise CertificateError(f"the private key does not belong to the certificate of {spiffe_id}")
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return cls(spiffe_id, serial_text(leaf.serial_number), begins, ends, chain_pem, key_pem)


def load_chain(chain_pem: str) -> list[x509.Certificate]:
    """The certificates in `chain_pem`, at least one and at most CHAIN_LENGTH.

    Raises:
        CertificateError: none, too many, or unreadable.
    """
    if chain_pem.count("-----BEGIN CERTIFICATE-----") > CHAIN_LENGTH:
        raise CertificateError(f"a chain of more than {CHAIN_LENGTH} certificates")
    try:
        return x509.load_pem_x509_certificates(chain_pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(f"the certificate chain cannot be read: {error}") from error


def serial_text(serial: int) -> str:
    """`serial` as Consul writes it: `0a:1b`."""
    return serial.to_bytes((serial.bit_length() + 7) // 8 or 1, "big").hex(":")


def _public_bytes_of(key_pem: str) -> bytes:
    try:
        key = load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause stays out of the message: parsers like to quote what they could not read.
        raise CertificateError("the private key cannot be read: it must be unencrypted PEM") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
