"""The path of a change: watches hear it, pieces become a CatalogState, and whoever publishes is told."""

import asyncio
from typing import NoReturn

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import (
    MARKER_SERVICE,
    CatalogState,
    IntentionRow,
    parse_hosts,
    parse_instances,
    parse_proxy_defaults,
    parse_service_defaults,
    parse_service_names,
    parse_unusable_names,
)
from nodeagent.config import Config
from nodeagent.control.announce import Announcer
from nodeagent.control.checks import Checks
from nodeagent.control.consul import Answer, Catalog, service_path
from nodeagent.control.environment import Environment
from nodeagent.control.hold_back import HoldBack, is_suspicious
from nodeagent.control.intentions import ENTRIES, IntentionSource, lost_destinations, why_unproven
from nodeagent.control.meshed import MeshedHosts
from nodeagent.control.seen import Seen
from nodeagent.control.watch import Apply, Held, Read, Rhythm, Watch
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_NODES = "/v1/catalog/nodes"
_PULSE = Rhythm(wait_s=limits.CATALOG_PULSE_WAIT_S, backoff_max_s=limits.CATALOG_PULSE_S, is_pulse=True)
_POLLED = Rhythm(poll_s=limits.CATALOG_POLL_S)
_OTHER_WATCHES = 1  # the roots, which `identity` follows

_log = open_log()


class Follower:
    """All watches of the mesh's description. Owned by control."""

    def __init__(self, config: Config, catalog: Catalog, metrics: Metrics, env: Environment) -> None:
        self.seen = Seen()
        self.changed = asyncio.Event()
        """Set when a piece changed; whoever compiles clears it."""
        self.held: dict[str, str] = {}
        """What is held back, by service (or `intentions`), in words."""
        self.meshed = MeshedHosts()
        self.checks = Checks(catalog, metrics, env.draw)
        """What this host looks at for the catalog; runs beside the follower."""
        self._config = config
        self._catalog = catalog
        self._metrics = metrics
        self._now = env.now
        self._elapsed = env.elapsed
        self._draw = env.draw
        self._started_at = env.now()
        self._is_complete = False
        self._announcer = Announcer(config, catalog, env.elapsed)
        self._hold_back = HoldBack()
        self._intentions = IntentionSource(catalog)
        self._saved_intentions: tuple[IntentionRow, ...] = ()
        self._watches: dict[str, Watch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._services_changed = asyncio.Event()

    def complaints(self) -> tuple[str, ...]:
        """Why answers of the catalog are not taken, now."""
        watches = {watch.complaint for watch in self._watches.values()} | {self.checks.complaint}
        return tuple(sorted(filter(None, watches)))

    @property
    def confirmed_at(self) -> float:
        """Unix seconds of the catalog's last word: what is in force was true then."""
        return self._catalog.confirmed_at

    @property
    def lost_since(self) -> float | None:
        """Unix seconds since when the catalog is out of reach; None while it answers. Silence counts as a failure."""
        if self._catalog.failing_since is not None:
            return self._catalog.failing_since
        due_s = limits.CATALOG_PULSE_WAIT_S * 17 / 16 + limits.CATALOG_READ_MARGIN_S
        last = max(self._catalog.answered_at, self._started_at)
        return last if self._now() - last > due_s else None

    @property
    def why_lost(self) -> str:
        """In one sentence; empty while it answers."""
        if self._catalog.failing_since is not None:
            return self._catalog.error
        return "it has not answered for a while" if self.lost_since is not None else ""

    @property
    def pulse_error(self) -> str:
        """Why the list of hosts is not taken: a catalog that answers but refuses that is of no use."""
        pulse = self._watches.get(_NODES)
        return pulse.complaint if pulse else ""

    def state(self) -> CatalogState | None:
        """The mesh as the catalog describes it; None until all of it was heard once: a part would be a hole in it.

        From then on a service that is new and cannot be read is left out, rather than that no change takes effect.
        """
        if self.seen.missing():
            return None
        self._is_complete = self._is_complete or all(map(self._is_given_up, self.seen.unheard()))
        if not self._is_complete:
            return None
        state = self.seen.state()
        return msgspec.structs.replace(state, hosts=self.meshed.admit(state.hosts, self._elapsed()))

    def remember(self, state: CatalogState) -> None:
        """Takes over what was saved before this process started."""
        self.meshed.remember(state.hosts)
        self.seen.saved = dict(state.instances)
        self._saved_intentions = state.intentions

    def _is_given_up(self, service: str) -> bool:
        """Whether a service cannot be read, and something is saved for it to go on by."""
        watch = self._watches.get(_health_path(service))
        return service in self.seen.saved and watch is not None and bool(watch.error)

    def alarms(self) -> tuple[str, ...]:
        """What is held back, in words."""
        return (*self.held.values(), *self.meshed.alarms(self._elapsed()))

    @property
    def found(self) -> tuple[str, ...]:
        """What this catalog is, in words; nothing of the embedded one."""
        agent = "this host's Consul agent" if self._announcer.is_told_agent else ""
        return tuple(filter(None, (agent, "intentions as rows" if self._intentions.is_legacy else "")))

    @property
    def rewind_alarm(self) -> str:
        """As Catalog.rewind_alarm."""
        return self._catalog.rewind_alarm

    async def run(self) -> None:
        """Follows until it is cancelled; may be run again after a failure."""
        self._watches.clear()
        self._tasks.clear()
        self._services_changed.set()
        async with asyncio.TaskGroup() as group:
            self._start(group, _NODES, self._take_hosts, _PULSE)
            self._start(group, "/v1/catalog/services", self._take_names)
            self._start(group, ENTRIES, self._take_intentions, read=self._intentions.read)
            self._start(group, "/v1/config/service-defaults", self._take_protocols)
            self._start(group, "/v1/config/proxy-defaults", self._take_default_protocol)
            while True:
                await self._services_changed.wait()
                self._services_changed.clear()
                self._follow_services(group)

    def _start(
        self, group: asyncio.TaskGroup, path: str, apply: Apply, rhythm: Rhythm | None = None, read: Read | None = None
    ) -> None:  # fmt: skip
        watch = Watch(self._catalog, path, apply, metrics=self._metrics, draw=self._draw, rhythm=rhythm)
        watch.read = read or watch.read
        self._watches[path] = watch
        self._tasks[path] = group.create_task(watch.run(), name=path)

    def _follow_services(self, group: asyncio.TaskGroup) -> None:
        """One health watch for each service; those beyond CATALOG_WATCHES are read now and then instead."""
        self.seen.forget_unlisted()
        wanted = {_health_path(name): name for name in self.seen.watched_names()}
        for path in [p for p in self._watches if p.startswith("/v1/health/") and p not in wanted]:
            self._tasks.pop(path).cancel()
            del self._watches[path]
        for path, name in wanted.items():
            if path not in self._watches:
                is_polled = len(self._watches) >= limits.CATALOG_WATCHES - _OTHER_WATCHES
                self._start(group, path, self._taker(name), _POLLED if is_polled else None)

    # --- what each answer means ------------------------------------------------------------------------------------

    async def _take_hosts(self, answer: Answer) -> None:
        self.seen.hosts = parse_hosts(answer.body)
        self.changed.set()
        await self._announcer.check_hosts(self.seen.hosts, self.seen.instances.get(MARKER_SERVICE, ()))

    async def _take_names(self, answer: Answer) -> None:
        self.seen.names = parse_service_names(answer.body)
        self.seen.unusable = parse_unusable_names(answer.body)
        self._services_changed.set()
        self.changed.set()

    async def _take_protocols(self, answer: Answer) -> None:
        self.seen.protocols = parse_service_defaults(answer.body)
        self.changed.set()

    async def _take_default_protocol(self, answer: Answer) -> None:
        self.seen.default_protocol = parse_proxy_defaults(answer.body)
        self.changed.set()

    async def _take_intentions(self, answer: Answer) -> None:
        rows = self._intentions.parse(answer)
        if answer.is_filtered:  # a deny may be among what is missing: nothing of such an answer is safe to take
            self._hold_intentions("the catalog left out intentions that the token may not read; give it intentions:read")
        known = self.seen.intentions if self.seen.intentions is not None else self._saved_intentions
        lost = lost_destinations(known, rows)
        doubt = await why_unproven(self._catalog, lost) if lost or not rows else ""
        if doubt and lost:
            self._hold_intentions(f"all intentions of {len(lost)} services vanished ({', '.join(lost[:3])}), and {doubt}")
        self.held.pop("intentions", None)
        self.seen.intentions = rows
        self.changed.set()
        if doubt:
            self.held["intentions"] = f"the catalog shows no intention at all, which denies everything, and {doubt}"
            raise Held(self.held["intentions"])

    def _hold_intentions(self, what: str) -> NoReturn:
        self.held["intentions"] = f"{what}; those known before stay in force"
        raise Held(self.held["intentions"])

    def _taker(self, service: str) -> Apply:
        async def take(answer: Answer) -> None:
            rows = parse_instances(service, answer.body)
            before = self.seen.instances.get(service, ())
            is_proven = not is_suspicious(before, rows) or (not answer.is_filtered and await self._shows_this_host())
            admitted = self._hold_back.admit(service, before, rows, is_proven=is_proven, now=self._elapsed())
            self.seen.instances[service] = admitted.rows
            self.seen.held[service] = admitted.lost
            self._services_changed.set()
            self.changed.set()
            if admitted.why:
                self.held[service] = admitted.why
                raise Held(admitted.why)
            self.held.pop(service, None)
            if service == MARKER_SERVICE:
                await self._announcer.check_markers(rows)

        return take

    # --- proofs ----------------------------------------------------------------------------------------------------

    async def _shows_this_host(self) -> bool:
        """Whether a fresh read shows this host's registration: the canary for a wiped catalog or a dead token."""
        hosts = parse_hosts((await self._catalog.read(_NODES)).body)
        return any(host.name == self._config.host.name for host in hosts)


def _health_path(service: str) -> str:
    return service_path("/v1/health/service/", service)
