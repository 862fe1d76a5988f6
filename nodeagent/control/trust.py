"""The mesh's roots, from the catalog's answer; pure."""

from dataclasses import dataclass

import msgspec

from certs.bundle import TrustBundle
from certs.errors import CertificateError
from nodeagent.errors import CatalogError


class _Root(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="ID")
    root_cert: str


class _Roots(msgspec.Struct, rename="pascal"):
    active_root_id: str = msgspec.field(name="ActiveRootID")
    trust_domain: str
    roots: list[_Root]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom this host believes, and which root signs now."""

    bundle: TrustBundle
    active_id: str
    ids: frozenset[str]
    """All that are listed: every one is believed, which is what makes a rotation smooth."""


def parse_roots(body: bytes) -> Trust:
    """The roots in an answer of `/v1/connect/ca/roots`.

    Raises:
        CatalogError: not such an answer, or roots that cannot be believed.
    """
    try:
        answer = msgspec.json.decode(body, type=_Roots)
        bundle = TrustBundle(answer.trust_domain, tuple(root.root_cert for root in answer.roots))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, CertificateError) as error:
        raise CatalogError(f"/v1/connect/ca/roots: {error}") from error
    ids = frozenset(root.id for root in answer.roots)
    if answer.active_root_id not in ids:
        raise CatalogError(
            f"/v1/connect/ca/roots: the active root {answer.active_root_id[:80]!r} is not among the roots"
        )
    return Trust(bundle, answer.active_root_id, ids)
