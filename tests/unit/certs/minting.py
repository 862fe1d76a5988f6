"""Certificates for tests: one that is right, and every single departure from it."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
WEB = f"spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web"
CLAIMS = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def key_usage(**claims):
    return x509.KeyUsage(**dict.fromkeys(CLAIMS, False) | claims)


def mint(
    *, uris=(WEB,), subject="", san_critical=True, usage=None, usage_critical=True, ca=False, purposes=BOTH,
    begins=NOW - timedelta(minutes=1), ends=NOW + timedelta(hours=1), key=None, signer=None, digest=None, extra=(),
    issuer="test",
):  # fmt: skip
    """A leaf as DER; what is not said is right."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = signer or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    builder = x509.CertificateBuilder(
        subject_name=name,
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        public_key=key.public_key(),
    ).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(ends)
    if uris is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=san_critical)
    if usage is not False:
        builder = builder.add_extension(usage or key_usage(digital_signature=True), critical=usage_critical)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer, SHA256() if digest is None else digest).public_bytes(Encoding.DER)
