"""The roots that a trust domain's certificates must lead to: several while one replaces another."""

from dataclasses import dataclass, field

from cryptography import x509

from certs.errors import CertificateError
from certs.spiffe import SpiffeId
from certs.svid import load_chain
from certs.verify import san_spiffe_id


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The root certificates of one trust domain; one that is no CA's, or another domain's, cannot be in it."""

    trust_domain: str
    roots_pem: tuple[str, ...] = field(repr=False)
    """Each one PEM certificate."""

    def __post_init__(self) -> None:
        SpiffeId(self.trust_domain, "")
        if not self.roots_pem:
            raise CertificateError(f"the trust bundle of {self.trust_domain} is empty: nobody could be verified")
        for root_pem in self.roots_pem:
            _check_root(root_pem, self.trust_domain)

    @property
    def pem(self) -> str:
        """All roots, one after another."""
        return "".join(root if root.endswith("\n") else root + "\n" for root in self.roots_pem)


def _check_root(root_pem: str, trust_domain: str) -> None:
    certificates = load_chain(root_pem)
    if len(certificates) != 1:
        raise CertificateError(f"a root of {trust_domain} is {len(certificates)} certificates instead of one")
    try:
        extensions = certificates[0].extensions
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        may_sign = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        is_ca = may_sign = False
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"a root's extensions cannot be read: {error}") from error
    if not (is_ca and may_sign):
        raise CertificateError(f"a root of {trust_domain} is not a CA's certificate (CA:TRUE and keyCertSign)")
    _check_name(extensions, trust_domain)


def _check_name(extensions: x509.Extensions, trust_domain: str) -> None:
    """A root that states a SPIFFE ID must state this trust domain's; external CAs may state none."""
    try:
        extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    stated = san_spiffe_id(extensions, san_must_be_critical=False)
    if stated != SpiffeId(trust_domain, ""):
        raise CertificateError(f"a root in the trust bundle of {trust_domain} says that it is {stated}")
