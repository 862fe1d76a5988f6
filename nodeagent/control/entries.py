"""What the catalog says of services' requests, kind by kind, and what of it is in force.

1. Where an entry that says where requests go is gone, and it is not proven that this token is shown all, it stays in force: without it
   requests would go where nobody sent them. Of limits and budgets, and of the mesh entry, what is gone is gone: without them the
   agent's own hold.
2. A server that does not know a kind has none of it. What of `mesh` such a server cannot keep is in the KV store.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from msgspec.structs import replace

from nodeagent import limits
from nodeagent.catalog.entry_lists import (
    NO_ENTRIES,
    EntryList,
    entries_path,
    kept_entries_path,
    parse_entries,
    parse_kept_entries,
)
from nodeagent.catalog.legacy_intentions import is_unknown_kind
from nodeagent.catalog.state import CatalogState
from nodeagent.catalog.traffic import ROUTING, Ways, ways_of
from nodeagent.control.admission import FILTERED
from nodeagent.control.consul import Answer, Catalog, CatalogRefused
from nodeagent.control.foreign import Foreign
from nodeagent.control.proof import NOT_SERVED, service_doubts
from nodeagent.control.protocols import Protocols
from nodeagent.control.seen import Seen
from nodeagent.control.watch import Held, Rhythm
from nodeagent.control.watches import Start
from nodeagent.model.policy.defaults import MeshEntry, MeshHttp, MeshIncoming, Normalization

DEFAULTS, BUDGETS, MESH = "service-defaults", "retry-budget", "mesh"
LISTED = (*ROUTING, MESH)
"""Kinds of which Consul's own lists are followed."""
WATCHES = len(LISTED) + 4  # defaults of services and of all, and the KV store's budgets and mesh entry
KEPT = Rhythm(wait_s=limits.CATALOG_PULSE_WAIT_S, may_go_back=True)
"""Of the KV store: whoever waits below a prefix is not told that more than that prefix was deleted."""
_SHOWN = 3
_KEPT_MESH = "kept mesh"
_LIMITS = b'"UpstreamConfig"'


class Entries:
    """Owned by the follower."""

    def __init__(
        self, catalog: Catalog, foreign: Foreign, seen: Seen, host: str, draw: Callable[[], float], on_change: Callable[[], None]
    ) -> None:  # fmt: skip
        self.alarms: tuple[str, ...] = ()
        """What is not proven, in words."""
        self.ways: Ways = {}
        """Where the entries in force lead."""
        self._catalog = catalog
        self._foreign = foreign
        self._host = host
        self._draw = draw
        self._on_change = on_change
        self._protocols = Protocols(seen, foreign, on_change)
        self._in_force: dict[str, EntryList] = {}
        self._heard: set[str] = set()
        self._unserved: set[str] = set()
        """Kinds that the server does not know."""
        self._doubts: dict[str, dict[str, str]] = {}
        """By kind: why what is gone may be hidden, by name."""

    @property
    def is_mesh_kept(self) -> bool:
        """Whether the mesh entry can be in the KV store alone."""
        return MESH in self._unserved

    def start(self, start: Start) -> None:
        """Begins to follow all of it, but what `follow` has to."""
        start(entries_path(DEFAULTS), self._take_defaults)
        start("/v1/config/proxy-defaults", self._protocols.take_default)
        for kind in LISTED:
            start(entries_path(kind), partial(self._take, kind), read=partial(self._read, kind))
        start(kept_entries_path(BUDGETS), partial(self._take_kept, BUDGETS), KEPT)

    async def take_kept_mesh(self, answer: Answer) -> None:
        """After each answer of `kept_entries_path(MESH)`, which `follow` asks for while `is_mesh_kept`.

        Raises:
            CatalogError: it cannot be read.
        """
        await self._take_kept(MESH, answer)

    def missing(self) -> tuple[str, ...]:
        """Of which kinds nothing was heard yet, and which must be: where requests go."""
        return tuple(kind for kind in ROUTING if kind not in self._heard)

    def remember(self, state: CatalogState) -> None:
        """Takes over what was in force before this process started."""
        self._protocols.remember(state)
        mesh = _mesh_of(state.normalization) if state.normalization else {}
        said = (state.routers, state.splitters, state.resolvers, state.upstreams, state.budgets, mesh, mesh)
        for key, specs in zip((*ROUTING, DEFAULTS, BUDGETS, MESH, _KEPT_MESH), said, strict=True):
            kind = MESH if key == _KEPT_MESH else key
            unread = {name: why for each, why in state.unread.items() for of, _, name in [each.partition("/")] if of == kind}
            self._in_force[key] = EntryList(specs, unread)
        self._note_ways()

    def fill(self, state: CatalogState) -> CatalogState:
        """The state with the entries in force."""
        lists = [self._in_force.get(kind, NO_ENTRIES) for kind in (*ROUTING, DEFAULTS, BUDGETS)]
        routers, splitters, resolvers, defaults, budgets = (each.specs for each in lists)
        return replace(
            state, routers=routers, splitters=splitters, resolvers=resolvers, upstreams=defaults, budgets=budgets,
            normalization=self._normalization(), unread=self._unread(),
        )  # fmt: skip

    # --- answers ---------------------------------------------------------------------------------------------------

    async def _read(self, kind: str, index: int, wait_s: float) -> Answer:
        """As Catalog.read, of a kind that the server may not know: then it is asked again now and then, it may be upgraded."""
        if kind in self._unserved:
            await self._catalog.rest(limits.CATALOG_POLL_S * (0.5 + self._draw()))
        try:
            answer = await self._catalog.read(entries_path(kind), 0 if kind in self._unserved else index, wait_s)
        except CatalogRefused as error:
            if not (is_unknown_kind(str(error)) or error.status in NOT_SERVED):
                raise
            self._note_served(kind, is_served=False)
            return Answer(b"[]", None)
        self._note_served(kind, is_served=True)
        return answer

    def _note_served(self, kind: str, *, is_served: bool) -> None:
        if is_served == (kind in self._unserved):
            self._unserved ^= {kind}
            self._on_change()

    async def _take_defaults(self, answer: Answer) -> None:
        """What services speak, whatever else their entries say, and how they call others."""
        await self._protocols.take(answer)
        found = await asyncio.to_thread(parse_entries, DEFAULTS, answer.body, self._in_force.get(DEFAULTS, NO_ENTRIES), having=_LIMITS)
        self._put(DEFAULTS, found._replace(specs={name: spec.upstream_config for name, spec in found.specs.items() if spec.upstream_config}))

    async def _take(self, kind: str, answer: Answer) -> None:
        known = self._in_force.get(kind, NO_ENTRIES)
        found = await asyncio.to_thread(parse_entries, kind, answer.body, known)  # first, as garbage is no reason to ask whose it is
        await self._refuse_foreign(kind, kind)
        doubts = await self._doubted(known, found, answer) if kind in ROUTING else {}
        self._doubts[kind] = doubts
        self.alarms = tuple(filter(None, map(_alarm, self._doubts, self._doubts.values())))
        self._put(kind, _with_doubted(found, known, doubts))
        if doubts or answer.is_filtered:
            raise Held(next(iter(doubts.values()), FILTERED))

    async def _take_kept(self, kind: str, answer: Answer) -> None:
        key = _KEPT_MESH if kind == MESH else kind
        found = await asyncio.to_thread(parse_kept_entries, kind, answer.body, self._in_force.get(key, NO_ENTRIES))
        await self._refuse_foreign(kind, key)
        self._put(key, found)

    async def _refuse_foreign(self, kind: str, key: str) -> None:
        """Nothing, unless another cluster answers: what was known counts on, also what was saved, as if it had been heard.

        Raises:
            Held: so it is.
            CatalogError: the catalog could not be asked.
        """
        if key not in self._in_force or not (why := await self._foreign.why()):
            return
        if key not in self._heard:
            self._heard.add(key)
            self._note_ways()
            self._on_change()
        raise Held(f"entries of the kind {kind} stay as they were: {why}")

    async def _doubted(self, known: EntryList, found: EntryList, answer: Answer) -> dict[str, str]:
        """Why what is gone may be hidden, by name."""
        lost = sorted(known.names - found.names)
        if not lost or answer.is_filtered:
            return dict.fromkeys(lost, FILTERED)
        doubts = await service_doubts(self._catalog, lost, self._host, self._draw())
        return {name: why for name, why in doubts.items() if why}

    def _put(self, key: str, found: EntryList) -> None:
        before, is_first = self._in_force.get(key, NO_ENTRIES), key not in self._heard
        self._heard.add(key)
        if (before.specs, before.unread) == (found.specs, found.unread):  # the same objects: what follows from them is quick then
            self._in_force[key] = before._replace(texts=found.texts)
        else:
            self._in_force[key] = found
            self._note_ways()
        if is_first or self._in_force[key] is found:
            self._on_change()

    def _note_ways(self) -> None:
        self.ways = ways_of(*(self._in_force.get(kind, NO_ENTRIES).specs for kind in ROUTING))

    # --- in force --------------------------------------------------------------------------------------------------

    def _mesh(self) -> EntryList:
        return self._in_force.get(_KEPT_MESH if self.is_mesh_kept else MESH, NO_ENTRIES)

    def _normalization(self) -> Normalization | None:
        entry = self._mesh().specs.get("mesh")
        incoming = entry.http.incoming if isinstance(entry, MeshEntry) and entry.http else None
        return incoming.request_normalization if incoming else None

    def _unread(self) -> dict[str, str]:
        lists = {kind: self._in_force.get(kind, NO_ENTRIES) for kind in (*ROUTING, DEFAULTS, BUDGETS)} | {MESH: self._mesh()}
        return {f"{kind}/{name}": why for kind, each in lists.items() for name, why in each.unread.items()}


def _with_doubted(found: EntryList, known: EntryList, doubted: Collection[str]) -> EntryList:
    """What was found, and of the doubted names what was known."""
    if not doubted:
        return found
    specs = {name: spec for name, spec in known.specs.items() if name in doubted}
    unread = {name: why for name, why in known.unread.items() if name in doubted}
    return found._replace(specs={**found.specs, **specs}, unread={**found.unread, **unread})


def _mesh_of(normalization: Normalization) -> Mapping[str, MeshEntry]:
    """The mesh entry that says so."""
    return {MESH: MeshEntry(kind="mesh", http=MeshHttp(incoming=MeshIncoming(request_normalization=normalization)))}


def _alarm(kind: str, doubts: Mapping[str, str]) -> str:
    if not doubts:
        return ""
    named = ", ".join([*doubts][:_SHOWN]) + (", …" if len(doubts) > _SHOWN else "")
    return f"{kind} of {named}: held, as it is not proven that it is gone: {next(iter(doubts.values()))}"
