"""SPIFFE IDs and Consul's way to write a service as one, and as the SNI of a tunnel."""

import re
from dataclasses import dataclass

from certs.errors import CertificateError

ID_BYTES = 2048  # SPIFFE ID, section 2.3: what every implementation must accept, and the most we take
TRUST_DOMAIN_BYTES = 255  # SPIFFE ID, section 2.1
SNI_BYTES = 255  # OpenSSL's TLSEXT_MAXLEN_host_name

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A valid SPIFFE ID: what breaks the rules cannot be made. `str()` gives the URI."""

    trust_domain: str
    path: str
    """Empty for the ID of a trust domain (a CA's), else it begins with `/`."""

    def __post_init__(self) -> None:
        _check_trust_domain(self.trust_domain)
        _check_path(self.path)
        if len(str(self)) > ID_BYTES:
            raise CertificateError(f"a SPIFFE ID of {len(str(self))} bytes is longer than {ID_BYTES}")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """The SPIFFE ID that `text` spells; there is one spelling only, nothing is decoded or folded.

    Raises:
        CertificateError: any departure from the rules.
    Source: SPIFFE ID standard, section 2.
    """
    if len(text) > ID_BYTES:
        raise CertificateError(f"a SPIFFE ID of {len(text)} characters is longer than {ID_BYTES}")
    if not text.startswith(_SCHEME):
        raise CertificateError(f"{text!r} is not a SPIFFE ID: it must begin with {_SCHEME}")
    trust_domain, slash, path = text[len(_SCHEME) :].partition("/")
    return SpiffeId(trust_domain, slash + path)


def service_id(trust_domain: str, datacenter: str, service: str) -> SpiffeId:
    """The identity of `service`, in Consul's form.

    Raises:
        CertificateError: a name that cannot be part of a SPIFFE ID.
    """
    for what, name in (("datacenter", datacenter), ("service", service)):
        if not _SEGMENT.fullmatch(name) or name in (".", ".."):
            raise CertificateError(f"{name!r} cannot be a {what} in a SPIFFE ID: use letters, digits, '.', '-' and '_'")
    return SpiffeId(trust_domain, f"/ns/default/dc/{datacenter}/svc/{service}")


def service_name(spiffe_id: SpiffeId, *, trust_domain: str, datacenter: str) -> str:
    """The service that `spiffe_id` names, which must be of this trust domain and datacenter.

    Raises:
        CertificateError: another trust domain, datacenter or shape.
    """
    if spiffe_id.trust_domain != trust_domain:
        raise CertificateError(f"{spiffe_id} is of trust domain {spiffe_id.trust_domain}, not of {trust_domain}")
    name = spiffe_id.path.rpartition("/")[2]
    if not name or spiffe_id.path != f"/ns/default/dc/{datacenter}/svc/{name}":
        raise CertificateError(f"{spiffe_id} does not name a service of datacenter {datacenter}")
    return name


def service_sni(service: str, datacenter: str, trust_domain: str) -> str:
    """The SNI by which a caller asks for `service`, in Consul's form.

    Raises:
        CertificateError: longer than TLS libraries take.
    """
    sni = f"{service}{_sni_suffix(datacenter, trust_domain)}"
    if len(sni) > SNI_BYTES:
        raise CertificateError(f"the SNI of service {service} would be {len(sni)} bytes, more than {SNI_BYTES}")
    return sni


def service_of_sni(sni: str, *, datacenter: str, trust_domain: str) -> str:
    """The service that a caller asks for with `sni`.

    Raises:
        CertificateError: not a service of this datacenter and trust domain.
    """
    service = sni.removesuffix(_sni_suffix(datacenter, trust_domain))
    if service == sni or not _SEGMENT.fullmatch(service):
        raise CertificateError(f"{sni!r} does not name a service of {datacenter} in {trust_domain}")
    return service


def _sni_suffix(datacenter: str, trust_domain: str) -> str:
    return f".default.{datacenter}.internal.{trust_domain}"


def _check_trust_domain(name: str) -> None:
    if not name or len(name) > TRUST_DOMAIN_BYTES:
        raise CertificateError(f"a trust domain has 1 to {TRUST_DOMAIN_BYTES} characters, not {len(name)}")
    if not _TRUST_DOMAIN.fullmatch(name):
        raise CertificateError(f"{name!r} is not a trust domain: only a-z, 0-9, '.', '-' and '_' are allowed")


def _check_path(path: str) -> None:
    if not path:
        return
    if not path.startswith("/"):
        raise CertificateError(f"{path!r} is not the path of a SPIFFE ID: it must begin with '/'")
    for segment in path[1:].split("/"):
        if not segment:
            raise CertificateError(f"{path!r} is not the path of a SPIFFE ID: it has an empty segment")
        if segment in (".", ".."):
            raise CertificateError(f"{path!r} is not the path of a SPIFFE ID: {segment!r} is not allowed")
        if not _SEGMENT.fullmatch(segment):
            raise CertificateError(f"{path!r} is not the path of a SPIFFE ID: only a-z, A-Z, 0-9, '.', '-' and '_'")
