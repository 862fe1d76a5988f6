"""The path of a change: watches hear it, pieces become a CatalogState, and whoever publishes is told."""

import asyncio
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial

import msgspec

from nodeagent import limits
from nodeagent.catalog.entry_lists import kept_entries_path
from nodeagent.catalog.inventory import INVENTORY
from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS
from nodeagent.catalog.markers import claims_alarm, markers_of
from nodeagent.catalog.registered import NODE
from nodeagent.catalog.state import (
    MARKER_SERVICE,
    CatalogState,
    parse_hosts,
    parse_instances,
    parse_service_names,
    parse_unusable_names,
)
from nodeagent.config import Config
from nodeagent.control import entries
from nodeagent.control.admission import FILTERED, Admission
from nodeagent.control.announce import Announcer
from nodeagent.control.checks import Checks
from nodeagent.control.consul import Answer, Catalog, service_path
from nodeagent.control.entries import KEPT, MESH, Entries
from nodeagent.control.environment import Environment
from nodeagent.control.heard import Heard
from nodeagent.control.hidden import NODES
from nodeagent.control.hold_back import Rows
from nodeagent.control.identity import named_services
from nodeagent.control.intention_hold import IntentionHold
from nodeagent.control.intentions import ENTRIES, IntentionSource
from nodeagent.control.meshed import MeshedHosts
from nodeagent.control.own import OwnServices
from nodeagent.control.reach import Dialled, Reach
from nodeagent.control.report import CONSUL_AGENT
from nodeagent.control.room import WAIT_S, Room
from nodeagent.control.seen import Seen
from nodeagent.control.together import Together, in_turns
from nodeagent.control.watch import Apply, Held, Rhythm, Watch
from nodeagent.control.watches import Watches
from nodeagent.observe.log import open_log
from nodeagent.observe.metrics import Metrics

_PULSE = Rhythm(wait_s=limits.CATALOG_PULSE_WAIT_S, backoff_max_s=limits.CATALOG_PULSE_S, is_pulse=True)
_LONG = Rhythm(rest_s=limits.CATALOG_POLL_S, backoff_max_s=limits.CONSUL_WAIT_S)
_POLLED = Rhythm(poll_s=limits.CATALOG_POLL_S)
_FORGETFUL = Rhythm(may_go_back=True)
_OTHER_WATCHES = 5 + entries.WATCHES  # three lists, the KV store's intentions, and the roots, which `identity` follows

_log = open_log()


class Follower:
    """All watches of the mesh's description. Owned by control."""

    def __init__(self, config: Config, catalog: Catalog, metrics: Metrics, env: Environment) -> None:
        self.seen = Seen()
        self.changed = asyncio.Event()
        """Set when a piece changed; whoever compiles clears it."""
        self._filtered = ""
        """Of the list of intentions: that the catalog says itself that it is not all."""
        self.meshed = MeshedHosts()
        self._announcer = Announcer(config, catalog, env.elapsed)
        self.admission = Admission(catalog, self.seen, self._announcer, config.host.name, env, self.changed.set)
        self.held, self.foreign, self._hidden = self.admission.held, self.admission.foreign, self.admission.hidden
        self.checks = Checks(catalog, metrics, env.draw)
        """What this host looks at for the catalog; runs beside the follower."""
        self._config = config
        self._catalog = catalog
        self._now = env.now
        self._elapsed = env.elapsed
        self._started_at = env.now()
        self._is_complete = False
        self._intentions = IntentionSource(catalog)
        self._intention_hold = IntentionHold(catalog, self.foreign.why)
        self._services_changed = asyncio.Event()
        self._heard = Heard()
        self._own = OwnServices(config.host.name, self._services_changed.set)
        self._reach = Reach()
        self._room = Room(catalog, env.elapsed)
        self._here: set[str] = set()
        """Services that this host judges callers of."""
        self._dialled = Dialled(env.elapsed)
        self._together = Together(catalog, self.seen, self._services_changed.set)
        self.entries = Entries(catalog, self.foreign, self.seen, config.host.name, env.draw, self._note_entries)
        self._watches = Watches(partial(Watch, catalog, metrics=metrics, draw=env.draw), self._room.wait_s)

    @property
    def is_late(self) -> bool:
        """Whether there are more services than are watched: of the others news comes now and then."""
        return bool(self._together.names)

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
        pulse = self._watches.get(NODES)
        return pulse.complaint if pulse else ""

    def state(self) -> CatalogState | None:
        """The mesh as the catalog describes it; None until all of it was heard once: a part would be a hole in it.

        From then on a service that is new and cannot be read is left out, rather than that no change takes effect.
        """
        if self.seen.missing() or self.entries.missing():
            return None
        self._is_complete = self._is_complete or all(map(self._is_given_up, self.seen.unheard()))
        if not self._is_complete:
            return None
        if self.admission.let_go():
            self._services_changed.set()
        state = self.entries.fill(self.seen.state())
        hosts = self.meshed.admit(state.hosts, self._elapsed(), is_sane=self.admission.is_sane, hidden=self._hidden.names)
        is_forgotten = bool(self._announcer.why_forgotten)
        return msgspec.structs.replace(state, hosts=hosts, is_late=self.is_late, intentions_in=self._intentions.place, is_forgotten=is_forgotten)

    def remember(self, state: CatalogState) -> None:
        """Takes over what was saved before this process started."""
        self.meshed.remember(state.hosts)
        self._announcer.remember(state.hosts, is_forgotten=state.is_forgotten)
        self.admission.remember(state.instances)
        if markers := markers_of(state.hosts):
            self.seen.saved[MARKER_SERVICE] = markers
        self.entries.remember(state)
        self._intentions.remember(state.intentions_in)
        self._intention_hold.remember(state.intentions)

    def _is_given_up(self, service: str) -> bool:
        """Whether a service cannot be read, and something is saved for it to go on by."""
        watch = self._watches.get(_health_path(service)) or self._watches.get(INVENTORY)
        is_refused = service in self._together.names and service in self._together.listed.refused
        return service in self.seen.saved and (is_refused or (watch is not None and bool(watch.error)))

    def alarms(self) -> tuple[str, ...]:
        """What is held back, in words."""
        said = filter(None, (self._filtered, self._intention_hold.alarm, claims_alarm(self.seen.refused)))
        return (*said, *self._intentions.alarms, *self.entries.alarms, *self.meshed.alarms(self._elapsed()), *self.admission.alarms())

    @property
    def found(self) -> tuple[str, ...]:
        """What this catalog is, in words; nothing of the embedded one."""
        agent = CONSUL_AGENT if self._announcer.is_told_agent else ""
        return tuple(filter(None, (agent, "intentions as rows" if self._intentions.is_legacy else "", self._together.found())))

    @property
    def rewind_alarm(self) -> str:
        """As Catalog.rewind_alarm."""
        return self._catalog.rewind_alarm

    async def run(self) -> None:
        """Follows until it is cancelled; may be run again after a failure."""
        self._watches.forget()
        self._services_changed.set()
        asyncio.get_running_loop().call_later(WAIT_S, self._services_changed.set)
        async with asyncio.TaskGroup() as group:
            self._watches.start(group, NODES, self._take_hosts, _PULSE, self._hidden.read)
            self._watches.start(group, "/v1/catalog/services", self._take_names)
            self._watches.start(group, ENTRIES, self._take_intentions, read=self._intentions.read)
            self.entries.start(partial(self._watches.start, group))
            while True:
                await self._services_changed.wait()
                self._services_changed.clear()
                self._follow_kept(group)
                self._follow_services(group)

    def note_calls(self, services: Iterable[str]) -> None:
        """Workloads of this host call these: what becomes of them is told at once from now on."""
        if self._dialled.note(services) and self._together.names:
            self._services_changed.set()

    async def hear(self, services: frozenset[str], host: str, wanted: AbstractSet[int | str]) -> None:
        """Returns when these, which the catalog shows on a host at ports or by names that are wanted, are known there; they count as called."""
        self.note_calls(services)
        to_watch = self._nearest(self.seen.watched_names())
        self._services_changed.set()
        for name in services - to_watch:
            with suppress(Held):
                await self._taker(name)(await self._catalog.read(_health_path(name)))
        for name in services & to_watch:
            while not (self.seen.has(name, host, wanted) or self._is_refused(name)):
                await self._heard.rest(name)

    def _is_refused(self, service: str) -> bool:
        """Whether a watch was told nothing of it, or what cannot be taken."""
        watch = self._watches.get(_health_path(service))
        return watch is not None and bool(watch.error)

    def _follow_kept(self, group: asyncio.TaskGroup) -> None:
        """The KV store's intentions, while the catalog keeps none as entries."""
        self._watches.keep(group, KEPT_INTENTIONS, self._take_kept, KEPT, is_wanted=self._intentions.is_legacy)
        if not self._intentions.is_legacy:
            self._intentions.kept = None
        self._watches.keep(group, kept_entries_path(MESH), self.entries.take_kept_mesh, KEPT, is_wanted=self.entries.is_mesh_kept)

    def _note_entries(self) -> None:
        """Where requests go says which services are watched."""
        self._reach.ways = self.entries.ways
        self._services_changed.set()
        self.changed.set()

    def _follow_services(self, group: asyncio.TaskGroup) -> None:
        """One health watch for each service; of more than CATALOG_WATCHES for the nearest, and one for all others together."""
        self.seen.forget_unlisted()
        names = self.seen.watched_names()
        watched, before = self._nearest(names), self._together.names
        self._together.names = beyond = frozenset(names) - watched
        self._watches.keep(group, self._own.path, self._own.take, _FORGETFUL, is_wanted=self.is_late)
        alone = self._together.alone()
        self._stop_but({_health_path(name) for name in watched | alone} | ({INVENTORY} if beyond else set()))
        if beyond:
            self._follow_all(group, is_outdated=self._together.is_outdated(beyond - before, alone))
        for name in filter((watched | alone).__contains__, names):
            self._follow_service(group, name, None if name in watched else _POLLED)

    def _follow_all(self, group: asyncio.TaskGroup, *, is_outdated: bool) -> None:
        """Whoever is being answered is not asked anew before: services that come one after another would keep all news away."""
        watch = self._watches.get(INVENTORY)
        if watch is None or (is_outdated and watch.is_waiting):
            self._watches.start(group, INVENTORY, self._take_all, _LONG, self._together.read)
        elif is_outdated:
            watch.hurry()

    def _nearest(self, names: tuple[str, ...]) -> frozenset[str]:
        """Those that are watched."""
        room = self._room.watches() - _OTHER_WATCHES
        if len(names) <= room:
            return frozenset(names)
        return self._reach.nearest(
            names, room - 2, spoken=frozenset((*self._here, *self._own.names, *named_services(self._config))), dialled=self._dialled.recent(),
            intentions=self.seen.intentions or (), watched=self.seen.instances.keys() - self._together.names,
        )  # fmt: skip

    def _follow_service(self, group: asyncio.TaskGroup, name: str, rhythm: Rhythm | None) -> None:
        path = _health_path(name)
        if path not in self._watches or self._watches[path].rhythm != (rhythm or Rhythm()):
            self._watches.start(group, path, self._taker(name), rhythm)

    def _stop_but(self, wanted: set[str]) -> None:
        """Ends the watches of services that are not wanted any more."""
        for path in [path for path in self._watches if path.startswith(("/v1/health/", INVENTORY)) and path not in wanted]:
            self._watches.stop(path)
        if self.seen.names is not None:
            self._catalog.indexes.keep(("/v1/health/", INVENTORY, NODE), wanted | self._watches.keys())

    # --- what each answer means ------------------------------------------------------------------------------------

    async def _take_hosts(self, answer: Answer) -> None:
        hosts = parse_hosts(answer.body)
        self._hidden.forget_shown({host.name for host in hosts})
        await self._hidden.look(self.meshed.missing(hosts))
        self.seen.hosts = hosts
        self.changed.set()
        await self._announcer.check_hosts(self.seen.hosts, self.seen.instances.get(MARKER_SERVICE, ()))

    async def _take_names(self, answer: Answer) -> None:
        names = parse_service_names(answer.body)
        await self._room.look(len(names) + _OTHER_WATCHES)
        self.seen.names = names
        self.seen.unusable = parse_unusable_names(answer.body)
        self._services_changed.set()
        self.changed.set()

    async def _take_intentions(self, answer: Answer) -> None:
        async with self._intentions.turn:
            await self._take_list(answer)

    async def _take_kept(self, answer: Answer) -> None:
        async with self._intentions.turn:
            if answer.is_filtered:
                raise Held(FILTERED)
            await self._intentions.take_kept(answer)
            await self._settle_intentions()

    async def _take_list(self, answer: Answer) -> None:
        await self._intentions.take(answer)
        if self._intentions.is_legacy != (KEPT_INTENTIONS in self._watches):
            self._services_changed.set()
        self._filtered = FILTERED if answer.is_filtered else ""
        if self._filtered:  # a deny may be among what is missing: nothing of such an answer is safe to take
            raise Held(self._filtered)
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
        if why := self._intention_hold.alarm or self._intentions.doubt:
            raise Held(why)

    def _put_intentions(self) -> None:
        if self.seen.intentions is not self._intention_hold.rows and self.seen.intentions != self._intention_hold.rows:
            self.seen.intentions = self._intention_hold.rows
            self._services_changed.set()  # they say which are watched
            self.changed.set()

    def _taker(self, service: str) -> Apply:
        async def take(answer: Answer) -> None:
            rows = parse_instances(service, answer.body)
            doubts = await self.admission.doubts({service: rows}, is_filtered=answer.is_filtered)
            hidden = await self.admission.unseen({service: rows})
            self._together.note_own(service, rows)  # first: what is older is not to come in between
            why = await self._put(service, rows, doubts.get(service, ""), hidden)
            self._heard.note(service)
            if service == MARKER_SERVICE and self.seen.hosts is not None:
                await self._announcer.check_markers(self.seen.hosts, rows)
            if why:
                raise Held(why)

        return take

    async def _take_all(self, answer: Answer) -> None:
        listed = await self._together.parse(answer)
        complaints: list[str] = []
        done: frozenset[str] = frozenset()
        while left := self._together.names - done:  # those that a watch told of until now are among them, too
            done |= left
            news, odd = await self._together.news(listed, left, self._is_here)
            complaints += odd + await self._put_all(news, is_filtered=answer.is_filtered)
        self._together.listed = listed
        self._services_changed.set()
        if why := next(filter(None, complaints), ""):
            raise Held(why)

    async def _put_all(self, news: Mapping[str, Rows], *, is_filtered: bool) -> list[str]:
        """As `_put`, for each of them that is neither watched by now nor was heard by itself since."""
        doubts, hidden = await self.admission.doubts(news, is_filtered=is_filtered), await self.admission.unseen(news)
        return [
            await self._put(name, rows, doubts.get(name, ""), hidden)
            async for name, rows in in_turns(news.items())
            if self._together.is_current(name, rows)
        ]

    async def _put(self, service: str, rows: Rows, doubt: str, hidden: frozenset[str]) -> str:
        """Puts an answer with a service's instances into force; why not all of it is, empty: it is."""
        own = await self.admission.here(service, rows, doubt)
        admitted = self.admission.judge(service, rows, doubt, hidden, own)
        is_here = self._is_here(service, admitted.rows)
        (self._here.add if is_here else self._here.discard)(service)
        unproven = await self._intention_hold.vouch(service, is_here=is_here)
        self._note_follows(service, admitted.rows)
        self.admission.put(service, admitted)
        self._put_intentions()
        self.changed.set()
        return admitted.why or unproven

    def _note_follows(self, service: str, rows: Rows) -> None:
        """Has it looked at who is watched, which takes 20 ms for 10,000 services, where these rows may have a part in that."""
        known = self.seen.instances.get(service)
        is_own = service not in self._together.names and service not in self.seen.saved
        if not is_own or known is None or bool(known) != bool(rows) or self._is_here(service, known) != self._is_here(service, rows):
            self._services_changed.set()

    def _is_here(self, service: str, rows: Rows) -> bool:
        """Whether this host judges callers of the service; nobody calls an agent by that name."""
        return service != MARKER_SERVICE and any(row.instance.host == self._config.host.name for row in rows)


def _health_path(service: str) -> str:
    return service_path("/v1/health/service/", service)
