"""TLS contexts for the identities that this worker holds. TLS 1.3 only, mutual, no tickets, no resumption.

No Python callback may ever be set on these contexts: the tunnel's transports use libssl directly, and a callback that
expects Python's own SSL object crashes the interpreter.
"""

import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509

from certs.errors import CertificateError
from certs.spiffe import SpiffeId
from certs.standing import Standing, roots_by_fingerprint, standing_of, why_distrusted
from certs.svid import load_chain
from certs.verify import peer_spiffe_id
from nodeagent import limits
from nodeagent.errors import NoSvid, PeerIdentity, Revoked
from nodeagent.model.identity import KeyRing, SvidKeys

ALPN = "h2"


class Keys:
    """The current key ring and the contexts made from it, one per service and side. Owned by one worker."""

    def __init__(self) -> None:
        self._ring = KeyRing("", "")
        self._svids: dict[str, SvidKeys] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._roots: dict[str, x509.Certificate] = {}
        self._revoked: frozenset[str] = frozenset()

    @property
    def trust_domain(self) -> str:
        """Of the mesh; empty before the first key ring."""
        return self._ring.trust_domain

    def replace(self, ring: KeyRing) -> None:
        """Uses `ring` for all handshakes from now on."""
        svids = {svid.service: svid for svid in ring.svids}
        is_same_bundle = ring.bundle_pem == self._ring.bundle_pem
        kept = {name for name, svid in svids.items() if is_same_bundle and svid == self._svids.get(name)}
        self._contexts = {key: context for key, context in self._contexts.items() if key[0] in kept}
        if not is_same_bundle:
            self._roots = roots_by_fingerprint(ring.bundle_pem)
        self._ring, self._svids, self._revoked = ring, svids, frozenset(ring.revoked)

    @property
    def roots(self) -> Mapping[str, x509.Certificate]:
        """Those that are believed now, by fingerprint; contexts made now believe them for as long as they live."""
        return self._roots

    def own_standing(self, service: str) -> Standing:
        """What the credit of our own certificate for `service` rests on.

        Raises:
            NoSvid: there is none.
        """
        svid = self._svids.get(service)
        if svid is None:
            raise NoSvid(f"this host holds no certificate for {service}; see nodeagent certs")
        return standing_of(load_chain(svid.chain_pem)[0], f"{service} on this host", self._roots)

    def check(self, standings: tuple[Standing, ...]) -> None:
        """Nothing, while all of these certificates are relied on.

        Raises:
            Revoked: which one is not, and why.
        """
        believed = frozenset(self._roots)
        for standing in standings:
            why = why_distrusted(standing, believed, self._revoked)
            if why:
                raise Revoked(why)

    def serial(self, service: str) -> str:
        """Of the service's current SVID, to tell sessions of an older one; empty without one."""
        svid = self._svids.get(service)
        return svid.serial if svid else ""

    def expires_at(self, service: str) -> float:
        """When the service's current SVID ends, in Unix seconds; 0 without one."""
        svid = self._svids.get(service)
        return svid.not_after if svid else 0.0

    def doubt(self, now: float) -> str:
        """Whose clock is wrong where a certificate is refused for its time, as a question where that is not known.

        now: Unix seconds.
        """
        begins = max((svid.not_before for svid in self._svids.values()), default=0.0)
        if begins <= now:
            return "are the clocks of both hosts right?"
        own = f"{datetime.fromtimestamp(begins, UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"this host's clock is behind: by it, a certificate of its own is not valid before {own}; see nodeagent status"

    def context(self, service: str, *, is_server: bool, now: float) -> ssl.SSLContext:
        """The context in which this host speaks as `service`. now: Unix seconds.

        Raises:
            NoSvid: no certificate for that service is held, or it has expired.
        """
        svid = self._svids.get(service)
        if svid is None:
            raise NoSvid(f"this host holds no certificate for {service}; see nodeagent certs")
        if svid.not_after <= now:
            raise NoSvid(f"the certificate for {service} has expired and the CA gave no new one; is this host's clock right? See nodeagent status and certs")
        context = self._contexts.get((service, is_server))
        if context is None:
            context = self._contexts[service, is_server] = _make_context(svid, self._ring.bundle_pem, is_server=is_server)
        return context


class Peer(NamedTuple):
    """Who the other end of a tunnel is, and until when."""

    spiffe_id: SpiffeId
    expires_at: float
    """Unix seconds."""
    leaf: x509.Certificate


def verify_peer(ssl_object: object, now: float) -> Peer:
    """Who the other end proved to be. OpenSSL has verified the chain; this checks the leaf by SPIFFE's rules.

    Raises:
        PeerIdentity: no certificate, not an SVID, or not the protocol of tunnels.
    """
    selected = ssl_object.selected_alpn_protocol()  # type: ignore[attr-defined]
    if selected != ALPN:
        raise PeerIdentity(f"the peer does not speak {ALPN} (its ALPN choice: {selected})")
    der = ssl_object.getpeercert(True)  # type: ignore[attr-defined]
    if not der:
        raise PeerIdentity("the peer showed no certificate")
    try:
        spiffe_id = peer_spiffe_id(der, datetime.fromtimestamp(now, UTC))
        leaf = x509.load_der_x509_certificate(der)
        return Peer(spiffe_id, leaf.not_valid_after_utc.timestamp(), leaf)
    except CertificateError as error:
        raise PeerIdentity(f"the peer's certificate is not an SVID: {error}") from error


class _TunnelContext(ssl.SSLContext):
    """Verifies its peers, but does not say so to Python.

    aiofastnet asks after each handshake, and where the answer is "required" it has Python parse the peer's certificate
    by way of a temporary file. A worker may write no file, and nobody needs the result: `verify_peer` reads the DER.
    """

    @property
    def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]  # read-only on purpose
        """What aiofastnet is told; OpenSSL itself was told CERT_REQUIRED by `demand_certificate`."""
        return ssl.CERT_NONE

    def demand_certificate(self) -> None:
        """OpenSSL refuses a peer without a certificate, or with one that the bundle does not vouch for."""
        setter = ssl.SSLContext.verify_mode.fset  # type: ignore[attr-defined]
        setter(self, ssl.CERT_REQUIRED)


def _make_context(svid: SvidKeys, bundle_pem: str, *, is_server: bool) -> ssl.SSLContext:
    context = _TunnelContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # identity is the URI SAN, checked by `verify_peer`
    context.demand_certificate()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols([ALPN])
    context.load_verify_locations(cadata=bundle_pem)
    if is_server:
        context.num_tickets = 0  # resumption would skip the client's authentication
    _load_from_memory(context, svid)
    return context


def _load_from_memory(context: ssl.SSLContext, svid: SvidKeys) -> None:
    """Gives OpenSSL the key through a file that exists in memory only."""
    fd = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write((svid.key_pem + svid.chain_pem).encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def distrust(error: Exception, where: str, doubt: str) -> PeerIdentity | None:
    """What to say of a handshake that OpenSSL ended because of the peer's certificate; None if that was not why.

    doubt: as `Keys.doubt`.
    """
    verify = getattr(error, "verify_message", "")
    clocks = f"; {doubt}" if "expired" in verify or "not yet valid" in verify else ""
    return PeerIdentity(f"{where} showed a certificate that this mesh does not trust: {verify}{clocks}") if verify else None


def reason_of(error: Exception) -> str:
    """The shortest true word for a failed handshake: OpenSSL's errors come without text."""
    if isinstance(error, TimeoutError):
        return f"it was not over within {limits.HANDSHAKE_S:g} s"
    return getattr(error, "reason", "") or str(error) or type(error).__name__
