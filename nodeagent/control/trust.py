"""The mesh's roots, from the catalog's answer; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from certs.bundle import TrustBundle
from certs.errors import CertificateError
from certs.serial import tag_in
from certs.standing import Standing, roots_by_fingerprint, standing_of, why_distrusted
from certs.svid import Svid, load_chain
from nodeagent.errors import CatalogError


class _Root(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(name="ID")
    root_cert: str


class _Roots(msgspec.Struct, rename="pascal"):
    active_root_id: str = msgspec.field(name="ActiveRootID")
    trust_domain: str
    roots: list[_Root]
    revoked_serial_tags: list[str] = []
    """The embedded catalog's; Consul has none."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom this host believes, and which root signs now."""

    bundle: TrustBundle
    active_id: str
    ids: frozenset[str]
    """All that are listed: every one is believed, which is what makes a rotation smooth."""
    revoked: frozenset[str] = frozenset()
    """Tags of serials: what begins with one is believed no more, whatever its root."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of a root -> its id in the catalog."""

    def has_revoked(self, svid: Svid) -> bool:
        """Whether the word on which `svid` was signed was taken back."""
        return tag_in(svid.serial) in self.revoked

    def why_distrusted(self, svid: Svid, root_id: str) -> str:
        """Why whoever knows what this host knows does not rely on `svid`, by the data path's rule; empty: they do.

        root_id: of the root above it.
        """
        roots = frozenset(name for name, known in self.names.items() if known == root_id) or frozenset({root_id})
        standing = Standing(str(svid.spiffe_id), svid.serial, roots, is_exact=True)
        return why_distrusted(standing, frozenset(self.names), self.revoked)

    @property
    def ends_at(self) -> float:
        """When the first of the roots ends, in Unix seconds."""
        roots = roots_by_fingerprint(self.bundle.pem).values()
        return min(root.not_valid_after_utc for root in roots).timestamp()

    def root_above(self, svid: Svid) -> str:
        """The id of the root that signed `svid`; where an intermediate did, that of the one which is in use now."""
        standing = standing_of(load_chain(svid.chain_pem)[0], str(svid.spiffe_id), roots_by_fingerprint(self.bundle.pem))
        known = [self.names[each] for each in standing.roots if each in self.names] if standing.is_exact else []
        return known[0] if known else self.active_id


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
    names = {name: root.id for root in answer.roots for name in roots_by_fingerprint(root.root_cert)}
    return Trust(bundle, answer.active_root_id, ids, frozenset(answer.revoked_serial_tags), names)
