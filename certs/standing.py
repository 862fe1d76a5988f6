"""Whether a certificate that was verified once may still be relied on: its root is believed, and nobody took it back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.serial import tag_in
from certs.svid import serial_text


@dataclass(frozen=True, slots=True)
class Standing:
    """What the credit of one verified certificate rests on."""

    whose: str
    """As people say it: `web on host2`."""
    serial: str
    roots: frozenset[str]
    """Fingerprints of roots."""
    is_exact: bool
    """Any of `roots` vouches for it; else it hangs on one of them by an intermediate, and it is not known on which."""


def fingerprint(root: x509.Certificate) -> str:
    """A root's name among others: SHA-256 over its DER, which is the id that our own CA gives it."""
    return hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()


def roots_by_fingerprint(bundle_pem: str) -> dict[str, x509.Certificate]:
    """The roots in a trust bundle; none for an empty one."""
    roots = x509.load_pem_x509_certificates(bundle_pem.encode()) if bundle_pem else []
    return {fingerprint(root): root for root in roots}


def standing_of(leaf: x509.Certificate, whose: str, roots: Mapping[str, x509.Certificate]) -> Standing:
    """What `leaf`, which one of `roots` vouches for, rests on."""
    found = frozenset(name for name, root in roots.items() if _names_issuer(leaf, root))
    return Standing(whose, serial_text(leaf.serial_number), found or frozenset(roots), bool(found))


def why_distrusted(standing: Standing, believed: frozenset[str], revoked: frozenset[str]) -> str:
    """Why a certificate must not be relied on any more; empty while it may be. revoked: tags of serials."""
    if tag_in(standing.serial) in revoked:
        return f"the certificate of {standing.whose} was revoked (serial {standing.serial})"
    held = standing.roots & believed
    if held and (standing.is_exact or held == standing.roots):
        return ""
    return f"the root above the certificate of {standing.whose} is not believed any more (serial {standing.serial})"


def _names_issuer(leaf: x509.Certificate, root: x509.Certificate) -> bool:
    """Whether `leaf` says that `root`'s key signed it. That this is true was verified with the chain."""
    if leaf.issuer != root.subject:
        return False
    try:
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return False
    return issuer == key
