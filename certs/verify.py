"""What a peer's leaf certificate proves: its SPIFFE ID, after every rule for such leaves has been applied.

The chain up to a root of the trust bundle is OpenSSL's to verify, before this is asked.
"""

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.errors import CertificateError
from certs.spiffe import SpiffeId, parse_spiffe_id

LEAF_BYTES = 16_384  # a leaf with one URI of 2,048 bytes and an RSA-4096 key is below 4 KiB
RSA_BITS_MIN = 2048  # NIST SP 800-57: less is broken within the life of a CA


def peer_spiffe_id(leaf_der: bytes, now: datetime) -> SpiffeId:
    """The SPIFFE ID that the leaf certificate `leaf_der` proves at `now` (aware, UTC).

    Raises:
        CertificateError: not a certificate, not valid now, or against a rule for leaves.
    """
    if len(leaf_der) > LEAF_BYTES:
        raise CertificateError(f"a certificate of {len(leaf_der)} bytes is larger than {LEAF_BYTES}")
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        spiffe_id = leaf_spiffe_id(leaf)
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    except CertificateError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise CertificateError(f"what the peer sent is not a certificate: {error}") from error
    if now < begins:
        raise CertificateError(f"the certificate of {spiffe_id} is not valid before {begins:%Y-%m-%d %H:%M:%S} UTC")
    if now > ends:
        raise CertificateError(f"the certificate of {spiffe_id} expired at {ends:%Y-%m-%d %H:%M:%S} UTC")
    return spiffe_id


def leaf_spiffe_id(leaf: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID in `leaf`, whatever the time.

    Raises:
        CertificateError: against a rule for leaves.
    Source: SPIFFE X509-SVID, sections 2 to 5.
    """
    try:
        extensions = leaf.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"the certificate's extensions cannot be read: {error}") from error
    _check_strength(leaf)
    _check_constraints(extensions)
    _check_usage(extensions)
    spiffe_id = san_spiffe_id(extensions, san_must_be_critical=not leaf.subject.rdns)
    if not spiffe_id.path:
        raise CertificateError(f"{spiffe_id} names a trust domain, not a workload: a leaf's SPIFFE ID has a path")
    return spiffe_id


def san_spiffe_id(extensions: x509.Extensions, *, san_must_be_critical: bool) -> SpiffeId:
    """The one URI among the subject alternative names, as a SPIFFE ID.

    Raises:
        CertificateError: no or several URIs, or not a SPIFFE ID.
    """
    try:
        extension = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        raise CertificateError("the certificate has no subject alternative name, so no SPIFFE ID") from None
    if san_must_be_critical and not extension.critical:
        raise CertificateError("the certificate has no subject and its alternative name is not critical")
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise CertificateError(f"the certificate has {len(uris)} URIs as subject alternative names instead of one")
    return parse_spiffe_id(uris[0])


def _check_strength(leaf: x509.Certificate) -> None:
    try:
        digest, key = leaf.signature_hash_algorithm, leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"the certificate's key or signature is of an unknown kind: {error}") from error
    if not isinstance(digest, SHA256 | SHA384 | SHA512):
        raise CertificateError("the certificate is not signed with SHA-256, SHA-384 or SHA-512")
    check_key(key)


def check_key(key: object) -> CertificatePublicKeyTypes:
    """`key`, when it is of a kind and size that the mesh takes.

    Raises:
        CertificateError: another curve or algorithm than every TLS 1.3 peer has, or too few bits.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        return key
    raise CertificateError(f"the certificate's key is not EC P-256, P-384 or RSA of at least {RSA_BITS_MIN} bits")


def _check_constraints(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise CertificateError(f"the certificate has an unknown critical extension {extension.oid.dotted_string}")
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise CertificateError("the certificate is a CA's: a workload must not speak with it")


def _check_usage(extensions: x509.Extensions) -> None:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        raise CertificateError("the certificate has no key usage") from None
    if not usage.critical:
        raise CertificateError("the certificate's key usage is not critical")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise CertificateError("the certificate's key may sign certificates or revocation lists: not a leaf's")
    if not usage.value.digital_signature:
        raise CertificateError("the certificate's key usage lacks digitalSignature")
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    for purpose, name in _PURPOSES:
        if purpose not in purposes:
            raise CertificateError(f"the certificate's extended key usage lacks {name}")


_PURPOSES = ((ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"), (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"))
