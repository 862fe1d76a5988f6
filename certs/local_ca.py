"""A CA of our own: a root for one trust domain that signs the SVIDs of its workloads."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.csr import private_key_pem, requested_key
from certs.errors import CertificateError
from certs.spiffe import SpiffeId

BACKDATED = timedelta(seconds=60)  # clocks of hosts differ: a certificate must be valid on a host that is a bit behind
BACKDATED_SHARE = 4  # of a short life: at most a quarter, or it would be due for renewal (at half) when it is born
ROOT_LIFE = timedelta(days=3650)  # Consul's root: ten years
_SIGNING, _SPEAKING = (
    x509.KeyUsage(
        digital_signature=not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )
    for ca in (True, False)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalCa:
    """A root certificate and its key. The key is not shown by `repr`."""

    trust_domain: str
    cert_pem: str = field(repr=False)
    key_pem: str = field(repr=False)

    @classmethod
    def create(cls, trust_domain: str, now: datetime) -> "LocalCa":
        """A new root for `trust_domain`, valid from `now` for ten years. Its SPIFFE ID has no path."""
        names = [x509.UniformResourceIdentifier(str(SpiffeId(trust_domain, "")))]
        cert_pem, key_pem = self_signed_root(f"nodeagent CA {trust_domain.partition('.')[0][:8]}", names, now)
        return cls(trust_domain, cert_pem, key_pem)

    def sign(
        self, csr_pem: str, spiffe_id: SpiffeId, ttl: timedelta, now: datetime, *, serial: int | None = None
    ) -> str:
        """The chain (PEM) of a new leaf for the key in `csr_pem` that says `spiffe_id`, whatever the request asks for.

        serial: by default a random one.

        Raises:
            CertificateError: a bad request, an ID without path or of another trust domain, or a root that has ended.
        """
        if spiffe_id.trust_domain != self.trust_domain or not spiffe_id.path:
            raise CertificateError(f"the CA of {self.trust_domain} signs no certificate for {spiffe_id}")
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
        builder = leaf_builder(self.cert_pem, requested_key(csr_pem), ttl, now, serial)
        builder = builder.subject_name(x509.Name([])).add_extension(names, critical=True)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return signed_pem(builder.add_extension(purposes, critical=False), self.key_pem)


def self_signed_root(common_name: str, names: list[x509.UniformResourceIdentifier], now: datetime) -> tuple[str, str]:
    """A new root: certificate and key, both PEM. It signs leaves only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNING, critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode(), private_key_pem(key)


def leaf_builder(
    root_pem: str, public_key: CertificatePublicKeyTypes, ttl: timedelta, now: datetime, serial: int | None = None
) -> x509.CertificateBuilder:
    """A leaf below the root `root_pem`, without subject and names; it never outlives the root.

    It begins a little before `now`, in whole seconds as certificates count: BACKDATED, or a quarter of a short life.

    Raises:
        CertificateError: the root has ended, or ends before the leaf could begin.
    """
    root = x509.load_pem_x509_certificate(root_pem.encode())
    if not root.not_valid_before_utc <= now < root.not_valid_after_utc:
        raise CertificateError(f"the root certificate is not valid at {now:%Y-%m-%d %H:%M:%S} UTC")
    backdated = min(BACKDATED, timedelta(seconds=ttl // timedelta(seconds=BACKDATED_SHARE)))
    root_key_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder(issuer_name=root.subject, public_key=public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(max(now - backdated, root.not_valid_before_utc))
        .not_valid_after(min(now + ttl, root.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SPEAKING, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_key_id), critical=False)
    )


def signed_pem(builder: x509.CertificateBuilder, key_pem: str) -> str:
    """The certificate of `builder`, signed with the root's key, PEM."""
    key = load_pem_private_key(key_pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
