"""Plain TLS server certificates for the catalog's own listener, below a root of their own.

The root is not the mesh's: whoever pins it to reach the catalog must not thereby trust workloads, nor the reverse.
"""

import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.csr import private_key_pem
from certs.errors import CertificateError
from certs.local_ca import leaf_builder, self_signed_root, signed_pem
from certs.svid import load_chain

SERVER_LIFE = timedelta(days=90)  # renewed at two thirds, so that a catalog stopped for a month comes back valid
RENEW_FROM = 2 / 3


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A server's certificate and key. The key is not shown by `repr`."""

    cert_pem: str = field(repr=False)
    key_pem: str = field(repr=False)

    def renew_at(self) -> datetime:
        """When a new one is due."""
        leaf = load_chain(self.cert_pem)[0]
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return begins + (ends - begins) * RENEW_FROM


@dataclass(frozen=True, slots=True)
class ServerRoot:
    """The root that the catalog's clients pin, and its key. The key is not shown by `repr`."""

    cert_pem: str = field(repr=False)
    key_pem: str = field(repr=False)

    @classmethod
    def create(cls, now: datetime) -> "ServerRoot":
        """A new root, valid from `now` for ten years."""
        return cls(*self_signed_root("nodeagent catalog TLS root", [], now))

    def issue(self, names: tuple[str, ...], now: datetime, ttl: timedelta = SERVER_LIFE) -> ServerCertificate:
        """A certificate for a server that is called by these IP addresses and DNS names.

        Raises:
            CertificateError: no name, or the root has ended.
        """
        if not names:
            raise CertificateError("a server certificate needs at least one name or address")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = leaf_builder(self.cert_pem, key.public_key(), ttl, now).subject_name(x509.Name([]))
        san = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(san, critical=True)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        return ServerCertificate(
            signed_pem(builder.add_extension(purposes, critical=False), self.key_pem), private_key_pem(key)
        )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise CertificateError(f"{name!r} is neither an IP address nor a DNS name") from error
