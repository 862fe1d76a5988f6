"""Who must say in time that it is well: when each was heard last, and what becomes of those that were not."""

import asyncio
import functools
import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

import msgspec

from nodeagent import limits
from nodeagent.embedded.check import Registered
from nodeagent.embedded.checks import end, read_check, read_timed
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.store import Store
from nodeagent.observe.log import open_log

Key = tuple[str, str]
"""Host and CheckID."""
NO_TOKEN = ""  # whose turn it is beside the loop: no token's
_JITTER = 17 / 16  # of a blocking query, which waits so much longer at most


class Timed(NamedTuple):
    """A check that is well for as long as somebody says so."""

    node: str
    id: str
    ttl_s: float


class Beats:
    """Owned by the event loop of the server. In memory alone: after a restart everybody has its whole time anew."""

    def __init__(self) -> None:
        self._heard: dict[Key, float] = {}
        self._told: dict[Key, float] = {}
        self._agents: dict[str, float] = {}
        """When a host's agent will have been silent for too long."""
        self._ticked_at = 0.0
        self.ending: set[Key] = set()
        """Of which it is just being written that nothing was heard."""

    def hear(self, node: str, check_id: str, now_s: float) -> None:
        """Somebody said how that check is."""
        self._heard[node, check_id] = now_s

    def begin(self, asked: Iterable[Registered], now_s: float) -> None:
        """These were registered, or once more: each has its whole time, as with Consul."""
        for each in asked:
            if each.row.ttl_s:
                self.hear(each.row.node, each.row.id, now_s)

    def may_tell(self, node: str, check_id: str, now_s: float) -> bool:
        """Whether words that say nothing new of the status are stored: each time would wake whoever watches the service."""
        last = self._told.get((node, check_id))
        if last is not None and now_s - last < limits.CHECK_OUTPUT_S:
            return False
        self._told[node, check_id] = now_s
        return True

    def tick(self, now_s: float) -> None:
        """This process runs. Time in which it did not counts for nobody: what was said meanwhile has not been read yet."""
        lost_s = now_s - self._ticked_at if self._ticked_at else 0.0
        self._ticked_at = now_s
        if lost_s > limits.CHECK_STALL_S:
            self._heard = {key: at + lost_s for key, at in self._heard.items()}
            self._agents = {node: until + lost_s for node, until in self._agents.items()}

    def is_ending(self, node: str, check_id: str) -> bool:
        """Whether it is just being written that nothing was heard of it: whoever says something now has the last word."""
        return (node, check_id) in self.ending

    def heard_since(self, key: Key, since_s: float) -> bool:
        """Whether something was said of it after that time."""
        return self._heard.get(key, since_s) > since_s

    def hear_agent(self, node: str, now_s: float, wait_s: float) -> None:
        """The agent of that host asked what to look at. wait_s: it asks again when there is news, or after so long."""
        self._agents[node] = now_s + wait_s * _JITTER + limits.CHECK_SILENT_S

    def excuse(self, nodes: Iterable[str], now_s: float) -> None:
        """What those were to look at is settled: they are silent again after their time, not at each look."""
        for node in nodes:
            if self.is_silent(node, now_s):
                self.hear_agent(node, now_s, 0.0)

    def is_silent(self, node: str, now_s: float) -> bool:
        """Whether that host's agent, of which `silent` knows, was not heard in its time."""
        return now_s > self._agents.get(node, now_s)

    def silent(self, nodes: Iterable[str], now_s: float) -> list[str]:
        """Those whose agents were not heard in their time. nodes: all where something is not critical that an agent may look at."""
        self._agents = {node: self._agents.get(node, now_s + limits.CHECK_SILENT_S) for node in nodes}
        return [node for node in self._agents if self.is_silent(node, now_s)]

    def heard(self) -> Mapping[Key, float]:
        """When each was heard last, as it is now: for who looks beside the loop."""
        return self._heard.copy()

    def settle(self, found: "Found", at_s: float) -> None:
        """Takes up what was found of the state at that time: who is new has the whole time from then on, who is gone is forgotten."""
        for key in found.new:
            self._heard.setdefault(key, at_s)
        for key in found.gone:
            if not self.heard_since(key, at_s):
                self._heard.pop(key, None)
        self._told = {key: at for key, at in self._told.items() if at_s - at < limits.CHECK_OUTPUT_S}


class Found(NamedTuple):
    """What a look at everybody's time found."""

    due: list[Timed]
    """Of these nothing was heard in their time."""
    new: list[Key]
    gone: set[Key]


def find_due(timed: Iterable[tuple[str, str, float]], heard: Mapping[Key, float], at_s: float) -> Found:
    """Whose time was over then. timed: host, CheckID and TTL of all that are not critical yet. Long, so it is done beside the loop."""
    found = Found([], [], set(heard))
    for row in timed:
        key = row[:2]
        found.gone.discard(key)
        last = heard.get(key)
        if last is None:
            found.new.append(key)
        elif at_s - last > row[2]:
            found.due.append(Timed(*row))
    return found


async def expire(store: Store, beats: Beats) -> NoReturn:
    """Makes those critical that did not say in time that they are well, until it is cancelled."""
    now = asyncio.get_running_loop().time
    ticking = asyncio.create_task(_tick(beats))
    try:
        while True:
            await asyncio.sleep(limits.CHECK_EXPIRY_S)
            try:
                at = now()
                beats.tick(at)
                heard = beats.heard()
                found = await store.read_aside(NO_TOKEN, functools.partial(_look, heard, at))
                beats.settle(found, at)
                await _end(store, beats, found.due, at)
            except StorageFailed:
                continue  # whoever writes is told; here it is tried again
            except Exception:  # noqa: BLE001 - without this one nobody's time would end any more: logged and tried again
                open_log().error("checks_not_expired", exc_info=True)
    finally:
        ticking.cancel()


def _look(heard: Mapping[Key, float], at_s: float, connection: sqlite3.Connection) -> Found:
    return find_due(read_timed(connection), heard, at_s)


async def _tick(beats: Beats) -> NoReturn:
    """By a clock of its own: the disk, or a long list, may hold up an expiry while beats are heard."""
    now = asyncio.get_running_loop().time
    while True:
        beats.tick(now())
        await asyncio.sleep(limits.CHECK_EXPIRY_S)


async def _end(store: Store, beats: Beats, due: list[Timed], now_s: float) -> None:
    if not due:
        return
    beats.ending = {(row.node, row.id) for row in due}
    try:
        await store.write(lambda change: _write(change, beats, due, now_s))
    finally:
        beats.ending = set()


def _write(change: Change, beats: Beats, due: list[Timed], now_s: float) -> None:
    for row in due:
        if beats.heard_since((row.node, row.id), now_s):
            continue
        try:
            known = read_check(change.connection, row.node, row.id)
        except msgspec.MsgspecError as error:  # of a restored file; the others' time ends all the same
            open_log().error("check_unreadable", node=row.node, check=row.id, error=str(error))
            beats.hear(row.node, row.id, now_s)
            continue
        if known is not None and known.row.ttl_s:
            end(change, known, f"nothing was heard of it for {known.row.ttl_s:g} s, its TTL")
