"""The path of a change: watches hear it, pieces become a CatalogState, and whoever publishes is told."""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from nodeagent import limits
from nodeagent.catalog.inventory import INVENTORY
from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS
from nodeagent.catalog.markers import claims_alarm, markers_of
from nodeagent.catalog.state import (
    MARKER_SERVICE,
    CatalogState,
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
from nodeagent.control.hold_back import Rows
from nodeagent.control.identity import named_services
from nodeagent.control.intention_hold import IntentionHold
from nodeagent.control.intentions import ENTRIES, IntentionSource
from nodeagent.control.losses import Losses
from nodeagent.control.meshed import MeshedHosts
from nodeagent.control.reach import Dialled, Reach
from nodeagent.control.seen import Seen
from nodeagent.control.together import Together, in_turns
from nodeagent.control.watch import Apply, Held, Read, Rhythm, Watch
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_NODES = "/v1/catalog/nodes"
_PULSE = Rhythm(wait_s=limits.CATALOG_PULSE_WAIT_S, backoff_max_s=limits.CATALOG_PULSE_S, is_pulse=True)
_LONG = Rhythm(rest_s=limits.CATALOG_POLL_S, backoff_max_s=limits.CONSUL_WAIT_S)
_POLLED = Rhythm(poll_s=limits.CATALOG_POLL_S)
_OTHER_WATCHES = 7  # the five lists, the KV store's intentions, and the roots, which `identity` follows
_FILTERED = "the catalog left out what the token may not read; give it service:read and intentions:read; what was known before stays in force"

_log = open_log()


class Follower:
    """All watches of the mesh's description. Owned by control."""

    def __init__(self, config: Config, catalog: Catalog, metrics: Metrics, env: Environment) -> None:
        self.seen = Seen()
        self.changed = asyncio.Event()
        """Set when a piece changed; whoever compiles clears it."""
        self.held: dict[str, str] = {}
        """What is held back, by service, in words."""
        self._filtered = ""
        """Of the list of intentions: that the catalog says itself that it is not all."""
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
        self.losses = Losses(catalog, self._announcer, self.seen, config.host.name, env.elapsed)
        self._intentions = IntentionSource(catalog)
        self._intention_hold = IntentionHold(catalog, self.losses.foreign.why)
        self._services_changed = asyncio.Event()
        self._reach = Reach()
        self._dialled = Dialled(env.elapsed)
        self._together = Together(catalog, self.seen, self._services_changed.set)
        self._watches: dict[str, Watch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def complaints(self) -> tuple[str, ...]:
        """Why answers of the catalog are not taken, now."""
        asked = [watch for path, watch in self._watches.items() if self._together.is_served or path != INVENTORY]
        return tuple(sorted(filter(None, {*(watch.complaint for watch in asked), self.checks.complaint})))

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
        is_shown = any(host.name == self._config.host.name for host in self.seen.hosts or ())
        is_sane = is_shown and self._catalog.failing_since is None
        if self.losses.let_go(is_sane=is_sane):
            self._services_changed.set()
        state = self.seen.state()
        return msgspec.structs.replace(state, hosts=self.meshed.admit(state.hosts, self._elapsed(), is_sane=is_sane))

    def remember(self, state: CatalogState) -> None:
        """Takes over what was saved before this process started."""
        self.meshed.remember(state.hosts)
        self._announcer.remember(state.hosts)
        self.seen.saved = dict(state.instances)
        if markers := markers_of(state.hosts):
            self.seen.saved[MARKER_SERVICE] = markers
        self._intention_hold.remember(state.intentions)

    def _is_given_up(self, service: str) -> bool:
        """Whether a service cannot be read, and something is saved for it to go on by."""
        watch = self._watches.get(_health_path(service)) or self._watches.get(INVENTORY)
        is_refused = service in self._together.names and service in self._together.listed.refused
        return service in self.seen.saved and (is_refused or (watch is not None and bool(watch.error)))

    def alarms(self) -> tuple[str, ...]:
        """What is held back, in words."""
        said = filter(None, (self._filtered, self._intention_hold.alarm, claims_alarm(self.seen.refused)))
        return (*said, *self._intentions.alarms, *self.held.values(), *self.meshed.alarms(self._elapsed()), *self.losses.alarms())

    @property
    def found(self) -> tuple[str, ...]:
        """What this catalog is, in words; nothing of the embedded one."""
        agent = "this host's Consul agent" if self._announcer.is_told_agent else ""
        return tuple(filter(None, (agent, "intentions as rows" if self._intentions.is_legacy else "", self._together.found())))

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
                self._follow_kept(group)
                self._follow_services(group)

    def _start(
        self, group: asyncio.TaskGroup, path: str, apply: Apply, rhythm: Rhythm | None = None, read: Read | None = None
    ) -> None:  # fmt: skip
        watch = Watch(self._catalog, path, apply, metrics=self._metrics, draw=self._draw, rhythm=rhythm)
        watch.read = read or watch.read
        if path in self._tasks:
            self._tasks[path].cancel()
        self._watches[path] = watch
        self._tasks[path] = group.create_task(watch.run(), name=path)

    def note_calls(self, services: Iterable[str]) -> None:
        """Workloads of this host call these: what becomes of them is told at once from now on."""
        if self._dialled.note(services) and self._together.names:
            self._services_changed.set()

    def _follow_kept(self, group: asyncio.TaskGroup) -> None:
        """The KV store's intentions, while the catalog keeps none as entries."""
        if self._intentions.is_legacy and KEPT_INTENTIONS not in self._watches:
            self._start(group, KEPT_INTENTIONS, self._take_kept)
        elif not self._intentions.is_legacy and KEPT_INTENTIONS in self._watches:
            self._tasks.pop(KEPT_INTENTIONS).cancel()
            del self._watches[KEPT_INTENTIONS]
            self._intentions.kept = None

    def _follow_services(self, group: asyncio.TaskGroup) -> None:
        """One health watch for each service; of more than CATALOG_WATCHES for the nearest, and one for all others together."""
        self.seen.forget_unlisted()
        names = self.seen.watched_names()
        watched, before = self._nearest(names), self._together.names
        self._together.names = beyond = frozenset(names) - watched
        alone = self._together.alone()
        self._stop_but({_health_path(name) for name in watched | alone} | ({INVENTORY} if beyond else set()))
        if beyond and (INVENTORY not in self._watches or self._together.is_outdated(beyond - before, alone)):
            self._start(group, INVENTORY, self._take_all, _LONG, self._together.read)
        for name in filter((watched | alone).__contains__, names):
            self._follow_service(group, name, None if name in watched else _POLLED)

    def _nearest(self, names: tuple[str, ...]) -> frozenset[str]:
        """Those that are watched."""
        room = limits.CATALOG_WATCHES - _OTHER_WATCHES
        if len(names) <= room:
            return frozenset(names)
        here = (name for name, rows in self.seen.instances.items() if self._is_here(name, rows))
        return self._reach.nearest(
            names, room - 1, spoken=frozenset((*here, *named_services(self._config))), dialled=self._dialled.recent(),
            intentions=self.seen.intentions or (), watched=self.seen.instances.keys() - self._together.names,
        )  # fmt: skip

    def _follow_service(self, group: asyncio.TaskGroup, name: str, rhythm: Rhythm | None) -> None:
        path = _health_path(name)
        if path not in self._watches or self._watches[path].rhythm != (rhythm or Rhythm()):
            self._start(group, path, self._taker(name), rhythm)

    def _stop_but(self, wanted: set[str]) -> None:
        """Ends the watches of services that are not wanted any more."""
        for path in [path for path in self._watches if path.startswith(("/v1/health/", INVENTORY)) and path not in wanted]:
            self._tasks.pop(path).cancel()
            del self._watches[path]
            self._catalog.indexes.forget(path)

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

    async def _refuse_foreign(self) -> None:
        if why := await self.losses.foreign.why():
            raise Held(f"protocols stay as they were: {why}")

    async def _take_protocols(self, answer: Answer) -> None:
        await self._refuse_foreign()
        self.seen.protocols = parse_service_defaults(answer.body)
        self.changed.set()

    async def _take_default_protocol(self, answer: Answer) -> None:
        await self._refuse_foreign()
        self.seen.default_protocol = parse_proxy_defaults(answer.body)
        self.changed.set()

    async def _take_intentions(self, answer: Answer) -> None:
        self._intentions.take(answer)
        if self._intentions.is_legacy != (KEPT_INTENTIONS in self._watches):
            self._services_changed.set()
        self._filtered = _FILTERED if answer.is_filtered else ""
        if self._filtered:  # a deny may be among what is missing: nothing of such an answer is safe to take
            raise Held(self._filtered)
        await self._settle_intentions()

    async def _take_kept(self, answer: Answer) -> None:
        if answer.is_filtered:
            raise Held(_FILTERED)
        await self._intentions.take_kept(answer)
        await self._settle_intentions()

    async def _settle_intentions(self) -> None:
        """After each answer that intentions are in; nothing while another part of them was not heard yet."""
        if self._intention_hold.alarm:
            await self._intentions.refresh()
        rows = self._intentions.in_force()
        if rows is None:
            return
        kept = self._intentions.kept if self._intentions.is_legacy else None
        await self._intention_hold.take(rows, None if kept is None else kept.rows.keys())
        self._put_intentions()
        if self._intention_hold.alarm:
            raise Held(self._intention_hold.alarm)

    def _put_intentions(self) -> None:
        if self.seen.intentions is not self._intention_hold.rows and self.seen.intentions != self._intention_hold.rows:
            self.seen.intentions = self._intention_hold.rows
            self._services_changed.set()  # they say which are watched
            self.changed.set()

    def _taker(self, service: str) -> Apply:
        async def take(answer: Answer) -> None:
            rows = parse_instances(service, answer.body)
            doubts = await self.losses.doubts({service: rows}, _FILTERED if answer.is_filtered else "")
            why = await self._put(service, rows, doubts.get(service, ""))
            self._together.note_alone(service)
            if service == MARKER_SERVICE and self.seen.hosts is not None:
                await self._announcer.check_markers(self.seen.hosts, rows)
            if why:
                raise Held(why)

        return take

    async def _take_all(self, answer: Answer) -> None:
        listed, alone = await self._together.parse(answer)
        complaints: list[str] = []
        done: frozenset[str] = frozenset()
        while left := self._together.names - done:  # those that a watch told of until now are among them, too
            done |= left
            news, odd = await self._together.news(listed, alone, left, self._is_here)
            complaints += odd + await self._put_all(news, is_filtered=answer.is_filtered)
        self._together.listed = listed
        self._services_changed.set()
        if why := next(filter(None, complaints), ""):
            raise Held(why)

    async def _put_all(self, news: Mapping[str, Rows], *, is_filtered: bool) -> list[str]:
        """As `_put`, for each of them that is not watched by now."""
        doubts = await self.losses.doubts(news, _FILTERED if is_filtered else "")
        return [
            await self._put(name, rows, doubts.get(name, ""))
            async for name, rows in in_turns(news.items())
            if name in self._together.names
        ]

    async def _put(self, service: str, rows: Rows, doubt: str) -> str:
        """Puts an answer with a service's instances into force; why not all of it is, empty: it is."""
        if why := self.losses.why_unsettled(service, rows):
            return why
        admitted = await self.losses.admit(service, rows, doubt)
        unproven = await self._intention_hold.vouch(service, is_here=self._is_here(service, admitted.rows))
        self.seen.instances[service] = admitted.rows
        self.seen.held[service] = admitted.lost
        self.held.pop(service, None)
        if admitted.why:
            self.held[service] = admitted.why
        self._put_intentions()
        self._services_changed.set()
        self.changed.set()
        return admitted.why or unproven

    def _is_here(self, service: str, rows: Rows) -> bool:
        """Whether this host judges callers of the service; nobody calls an agent by that name."""
        return service != MARKER_SERVICE and any(row.instance.host == self._config.host.name for row in rows)


def _health_path(service: str) -> str:
    return service_path("/v1/health/service/", service)
