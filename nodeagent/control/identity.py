"""The certificates that this host's workloads speak by, and the roots that it believes: in memory only."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.config import Config
from nodeagent.control.clock import watch_clock
from nodeagent.control.consul import Answer, Catalog
from nodeagent.control.displaced import in_vain
from nodeagent.control.domain_hold import DomainHold
from nodeagent.control.environment import Environment
from nodeagent.control.holdings import HeldCertificate, Holdings
from nodeagent.control.issuer import Issuer
from nodeagent.control.keeper import Keeper, Surroundings
from nodeagent.control.key_memory import KeptSvid, KeyMemoryError, decode_keys, encode_keys
from nodeagent.control.on_demand import OnDemand
from nodeagent.control.trust import Trust, parse_roots
from nodeagent.control.watch import Held, Watch
from nodeagent.model.identity import KeyRing, SvidKeys
from nodeagent.model.names import is_service_name
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_EXPIRY = "nodeagent_svid_expiry_timestamp_seconds"

_log = open_log()


def services_spoken_for(snapshot: Snapshot, config: Config) -> frozenset[str]:
    """The services whose certificates this host needs whether or not anybody called yet.

    Not those that claim another's port and nothing else: to ask for one would have its refusal say that a right is missing.
    """
    registered = snapshot.local_names() - in_vain(snapshot)
    return frozenset(name for name in registered | named_services(config) if is_service_name(name))


def named_services(config: Config) -> frozenset[str]:
    """The services that this host's configuration has units speak as."""
    units = config.identity.units if isinstance(config.identity.units, tuple) else ()
    return frozenset({w.service for w in config.workload} | {unit.removesuffix(".service") for unit in units})


class Identity:
    """All keepers and the roots. Owned by control."""

    def __init__(
        self, config: Config, catalog: Catalog, metrics: Metrics, env: Environment,
        *, hand_out: Callable[[KeyRing], None], on_trust: Callable[[], None],
    ) -> None:  # fmt: skip
        self.trust: Trust | None = None
        self.keepers: dict[str, Keeper] = {}
        self._config = config
        self._catalog = catalog
        self._metrics = metrics
        self._hand_out = hand_out
        self._on_trust = on_trust
        self.remember: Callable[[bytes], None] = lambda _: None
        """Has the next control process know what this one knows."""
        self._roots_body = b""
        self._now = env.now
        self._elapsed = env.elapsed
        self._domain_hold = DomainHold(Path(config.admin.state_dir) / "held-domain", limits.HOLD_BACK_S)
        self._hold_over: asyncio.TimerHandle | None = None
        self._issuer = Issuer(catalog, config.host.datacenter, metrics, env)
        self._world = Surroundings(lambda: self.trust, self._issuer.issue, self._change, catalog.rest, env)
        self._roots = Watch(catalog, "/v1/connect/ca/roots", self._take_roots, metrics=metrics, draw=env.draw)
        self._holdings = Holdings(catalog, self._held, env.draw)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, tuple[Svid, float]] = {}
        """Certificates of services that left this host, and when: for one that comes back while nobody can sign."""
        self._needed: frozenset[str] | None = None
        self._handed_out: KeyRing | None = None
        self._is_settled = False
        self._complained_at = -limits.CATALOG_COMPLAIN_S
        self._on_demand = OnDemand(env.elapsed)
        self._wanted_changed = asyncio.Event()
        self._ring_changed = asyncio.Event()

    @property
    def complaint(self) -> str:
        """Why the roots' last answer was not taken; empty while all is well."""
        return self._roots.complaint

    @property
    def is_by_connect(self) -> bool:
        """Whether certificates are Connect's, as far as is known."""
        return self._issuer.is_connect

    @property
    def clock_ahead_s(self) -> float:
        """As CatalogClock.ahead_s: the CA is there, too."""
        return self._catalog.clock.ahead_s

    @property
    def is_shut_out(self) -> bool:
        """Whether the catalog refuses this host's token: every token that it knows may read the roots."""
        return self._roots.is_forbidden

    def restore(self, kept: bytes) -> None:
        """Begins with what an earlier control process knew; what cannot be used is asked for anew."""
        try:
            kept_keys = decode_keys(kept)
        except KeyMemoryError as error:
            _log.warning("kept_keys_ignored", error=str(error), effect="certificates are asked for anew")
            return
        trust = kept_keys.trust
        self._trust_in(trust, kept_keys.roots)
        for service, svid in kept_keys.svids.items():
            is_own = svid.spiffe_id == service_id(trust.bundle.trust_domain, self._config.host.datacenter, service)
            if is_own and svid.not_after.timestamp() > self._now() and not trust.has_revoked(svid):
                keeper = self.keepers[service] = Keeper(service, self._world)
                keeper.remember(svid, trust)
                if self._config.identity.units == "any":
                    self._on_demand.add(service)
        _log.info("keys_restored", certificates=sorted(self.keepers))

    def resume(self) -> None:
        """Goes on holding a trust domain that an earlier process held: until that is over, the roots of then are in force."""
        roots = self._domain_hold.restore(self._now(), self._elapsed())
        if roots and self.trust is None:
            self._trust_in(parse_roots(roots), roots)

    def need(self, services: frozenset[str]) -> None:
        """These are kept from now on, whether or not anybody asks for them."""
        if services != self._needed:
            self._needed = services
            self._wanted_changed.set()
            self._change()  # what was restored may have waited for nothing but this

    def ask(self, service: str) -> str:
        """A worker needs a certificate: one request to the CA, however many ask; after a refusal none for a while.

        Gives why there is none now; empty while it is on its way.
        """
        keeper = self.keepers.get(service)
        if keeper is None and service in (self._needed or ()):
            return ""  # since just now: its keeper is made in the next turn
        if keeper is None and (why := self._why_unwanted(service)):
            return self._refuse(service, why)
        self.note_calls((service,))
        if keeper is None:
            self._on_demand.add(service)
            self._wanted_changed.set()
        elif keeper.svid is None and asyncio.get_running_loop().time() - keeper.failed_at >= limits.SVID_REFUSED_S:
            keeper.bell.ring()
        if keeper and (keeper.svid or keeper.error):
            return "" if keeper.svid else keeper.error
        failure = self._catalog.error if self._catalog.failing_since is not None else self._roots.error
        return f"the mesh's roots are not known: {failure}" if self.trust is None and failure else ""

    def why_mute(self, service: str) -> str:
        """Why nobody here can speak as this service in a tunnel; empty: somebody can, or it was not tried yet."""
        keeper = self.keepers.get(service)
        if keeper is None:
            return self._why_unwanted(service)
        return "" if keeper.svid else keeper.error

    def _why_unwanted(self, service: str) -> str:
        """Why nobody here may speak as this service."""
        if self._config.identity.units != "any" or not is_service_name(service):
            return "this host's configuration names no such workload"
        return self._on_demand.why_full(service)

    def note_calls(self, services: Iterable[str]) -> None:
        """These have called: what is held for them on demand is in use."""
        self._on_demand.note(services)

    def _is_vain(self, service: str) -> bool:
        """Whether it has no certificate: when nobody calls, the complaint of that would help nobody."""
        keeper = self.keepers.get(service)
        return keeper is not None and keeper.svid is None

    def ring(self) -> KeyRing | None:
        """The key material that is valid now; None before the roots are known."""
        if self.trust is None:
            return None
        domain = self.trust.bundle.trust_domain
        svids = tuple(
            SvidKeys(name, svid.chain_pem, svid.key_pem, svid.not_after.timestamp(), svid.serial, svid.not_before.timestamp())
            for name, keeper in sorted(self.keepers.items())
            if (svid := keeper.svid) and svid.spiffe_id.trust_domain == domain
        )
        return KeyRing(domain, self.trust.bundle.pem, svids, tuple(sorted(self.trust.revoked)))

    async def run(self) -> None:
        """Keeps roots and certificates until it is cancelled; may be run again after a failure."""
        self._tasks.clear()
        self._wanted_changed.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._roots.run(), name="roots")
            group.create_task(self._publish(), name="keys")
            group.create_task(self._holdings.run(), name="holdings")
            group.create_task(watch_clock(self._now, self._note_jump), name="clock")
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(limits.SVID_IDLE_LOOK_S):
                        await self._wanted_changed.wait()
                self._wanted_changed.clear()
                self._on_demand.forget(self._is_vain)
                self._follow(group)

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """A keeper for each service that is needed or was asked for."""
        wanted = (self._needed or frozenset()) | self._on_demand.services
        for name in (self.keepers.keys() if self._needed is not None else self._tasks.keys()) - wanted:
            if task := self._tasks.pop(name, None):
                task.cancel()
            self._metrics.drop(_EXPIRY, name)
            self._issuer.forget(name)
            if svid := self.keepers.pop(name).svid:
                self._left[name] = svid, self._elapsed()
                self._change()
        self._forget_left()
        for name in sorted(wanted - self._tasks.keys()):
            keeper = self.keepers.get(name) or self._welcome(name)
            self._tasks[name] = group.create_task(keeper.run(), name=f"svid {name}")

    def _forget_left(self) -> None:
        """Those that left too long ago, and the first of too many."""
        while self._left:
            name, (_, since) = next(iter(self._left.items()))
            if len(self._left) <= limits.SVID_ON_DEMAND and self._elapsed() - since < limits.HOLD_BACK_S:
                return
            del self._left[name]

    def _welcome(self, name: str) -> Keeper:
        """A keeper, with what it had where it has only been away for a moment: so long a catalog may be another than the one that signed."""
        keeper = self.keepers[name] = Keeper(name, self._world)
        svid, _ = self._left.pop(name, (None, 0.0))
        if svid and self.trust and svid.spiffe_id.trust_domain == self.trust.bundle.trust_domain:
            keeper.remember(svid, self.trust)
        return keeper

    async def _publish(self) -> None:
        """Hands the ring to the workers after each change; changes that come together go together."""
        while True:
            await self._ring_changed.wait()
            await asyncio.sleep(limits.COMPILE_S)
            self._ring_changed.clear()
            ring = self.ring()
            if ring and ring != self._handed_out and self._has_settled():
                self._handed_out = ring
                self._hand_out(ring)
                self._holdings.changed.set()
                self._measure(ring)
                kept = tuple(KeptSvid(svid.service, svid.chain_pem, svid.key_pem) for svid in ring.svids)
                self.remember(encode_keys(self._roots_body, kept))

    def _held(self) -> list[HeldCertificate]:
        found = [(keeper, keeper.svid) for _, keeper in sorted(self.keepers.items())]
        return [
            HeldCertificate(keeper.service, svid.serial, keeper.root_id, svid.not_after.timestamp())
            for keeper, svid in found if svid
        ]  # fmt: skip

    def _measure(self, ring: KeyRing) -> None:
        """When each certificate ends; one that has ended stays in sight, as an alarm, and one that was revoked goes."""
        for svid in ring.svids:
            self._metrics.set(_EXPIRY, svid.not_after, svid.service)
        for keeper in self.keepers.values():
            if keeper.svid is None and keeper.was_revoked:
                self._metrics.drop(_EXPIRY, keeper.service)

    def _has_settled(self) -> bool:
        """Whether each certificate that this host needs was asked for once.

        Before, a ring would be a hole: after a restart of control the workers still hold the certificates of its
        predecessor, and an early ring without them would take them away.
        """
        keepers = [self.keepers.get(name) for name in self._needed or ()]
        tried = all(keeper and (keeper.svid or keeper.error) for keeper in keepers)
        self._is_settled = self._is_settled or (self._needed is not None and tried)
        return self._is_settled

    def _refuse(self, service: str, why: str) -> str:
        """Says so, but not for each of a worker's questions; gives `why`."""
        at = asyncio.get_running_loop().time()
        if at - self._complained_at >= limits.CATALOG_COMPLAIN_S:
            self._complained_at = at
            _log.warning("svid_refused", service=service, error=why)
        return why

    def _change(self) -> None:
        self._ring_changed.set()

    async def _take_roots(self, answer: Answer) -> None:
        trust = parse_roots(answer.body)
        self._issuer.offered = trust.bundle.trust_domain
        known = self.trust.bundle.trust_domain if self.trust else ""
        why = self._domain_hold.why_held(known, trust.bundle.trust_domain, self._elapsed())
        await asyncio.to_thread(self._domain_hold.save, self._roots_body, self._now(), self._elapsed())
        if why:
            self._rest_until(self._domain_hold.left_s(self._elapsed()))
            raise Held(f"{why}; restart this host's Consul agent before (systemctl restart consul)" if self.is_by_connect else why)
        self._trust_in(trust, answer.body)
        self._on_trust()
        self._wake()
        if known not in ("", trust.bundle.trust_domain):
            self._catalog.wake()  # whoever held what it said

    def _rest_until(self, left_s: float) -> None:
        """Whoever rests looks again when the hold is over: hosts that speak by one domain and hosts that speak by the other do not meet."""
        if self._hold_over:
            self._hold_over.cancel()
        self._hold_over = asyncio.get_running_loop().call_later(left_s, self._catalog.wake)

    def _trust_in(self, trust: Trust, body: bytes) -> None:
        if self.trust is not None and body != self._roots_body:  # the same: what was restored is confirmed
            _log.warning("roots_changed", trust_domain=trust.bundle.trust_domain, roots=sorted(trust.ids),
                         active=trust.active_id, revoked=len(trust.revoked))  # fmt: skip
        self.trust, self._roots_body = trust, body
        self._metrics.set("nodeagent_trusted_roots", len(trust.ids))
        self._metrics.set("nodeagent_root_expiry_timestamp_seconds", trust.ends_at)
        self._metrics.set("nodeagent_revoked_tokens", len(trust.revoked))
        self._change()

    def _note_jump(self, seconds: float) -> None:
        """What was valid a moment ago may have ended, and what a keeper rests for may be due."""
        _log.warning("clock_jumped", by_s=round(seconds, 1))
        self._wake()

    def _wake(self) -> None:
        for keeper in self.keepers.values():
            keeper.bell.ring()
