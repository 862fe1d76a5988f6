"""What one worker holds: the current snapshot and keys, the open relays, counters. Never shared, lost without harm."""

import asyncio
import itertools
import sys
import time
import traceback
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.errors import AgentError, LimitReached, NoSnapshot, Reason
from nodeagent.model.address import Address
from nodeagent.model.outcome import ConnectionRow, Direction
from nodeagent.model.snapshot import Snapshot
from nodeagent.observe.record import RecordQueue
from nodeagent.proxy.end import End
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.first_use import FirstUse
from nodeagent.proxy.held import HeldRelays
from nodeagent.proxy.http.held import Http
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.room import fullest_first
from nodeagent.proxy.tls import Keys
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.proxy.upstream import PortPool
from nodeagent.wire.connect import RESET_CODES
from nodeagent.wire.stream import Budget, Stream

_DEFECTS_A_MINUTE = 20


class Live:
    """Mutable state of a worker, owned by its loop."""

    def __init__(self, tag: str, config: Config) -> None:
        """tag: no other worker of this host ever has it."""
        self.tag = tag
        self.config = config
        self.keys = Keys()
        self.units: dict[int, str] = {}
        self.ports = PortPool()  # after the fork: each worker has an order of its own
        self.relays: dict[str, Relay] = {}
        self.records = RecordQueue()
        self.http = Http(config, lambda: self.snapshot)
        self.first_use = FirstUse()
        self.opened: Counter[str] = Counter()
        self.budget = Budget()
        self.budget.on_spent = self._note_spent
        self.tunnels: set[Tunnel] = set()
        self.accepted_from: Counter[str] = Counter()
        """Tunnels that peers have opened, by address."""
        self.has_snapshot = asyncio.Event()
        self.has_keys = asyncio.Event()
        self.is_empty = asyncio.Event()
        self.is_quiet = asyncio.Event()
        self._note_quiet()
        self._snapshot: Snapshot | None = None
        self._of_peer: Counter[str] = Counter()
        self._is_relief_due = False
        self._numbers = itertools.count(1)
        self._closed_sent = self._closed_received = 0
        self._defects = self._defects_minute = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.held = HeldRelays(config.host.name, config.host.deny_grace_s, self.spawn, self.report)

    @property
    def generation(self) -> int:
        """Of the current snapshot; 0 before the first."""
        return self._snapshot.generation if self._snapshot else 0

    @property
    def snapshot(self) -> Snapshot:
        """What decisions are made from.

        Raises:
            NoSnapshot: none has come yet.
        """
        if self._snapshot is None:
            raise NoSnapshot("this agent has not heard from the catalog yet; is it reachable? see nodeagent status")
        return self._snapshot

    def follow(self, snapshot: Snapshot) -> None:
        """New connections are decided by `snapshot` from here on; open ones end if it denies them."""
        self._snapshot = snapshot
        self.has_snapshot.set()
        self.held.follow(snapshot)
        self.http.follow(snapshot)

    def now(self) -> float:
        """Unix seconds: the worker's only wall clock."""
        return time.time()  # noqa: TID251 - the outermost shell

    def next_id(self) -> str:
        """For a row: never given before on this host."""
        return f"{self.tag}-{next(self._numbers)}"

    def open(self, downstream: End, direction: Direction, client: Address, original_dst: str, peer: str = "") -> Relay:
        """A row for a connection that has just arrived.

        peer: the host in whose tunnel it came.
        """
        self.opened[direction] += 1
        row = ConnectionRow(
            id=self.next_id(),
            direction=direction,
            client=str(client),
            original_dst=original_dst,
            opened_at=self.now(),
            generation=self.generation,
            peer=peer,
        )
        if direction == "tunnel":
            self._of_peer[peer] += 1
        relay = Relay(row, downstream, self)
        self.relays[row.id] = relay
        self._note_quiet()
        return relay

    def check_room(self, peer: str = "") -> None:
        """Refuses beyond the limits.

        peer: the host in whose tunnel the connection came.

        Raises:
            LimitReached: too many connections, too many of that peer's, or too many bytes are held for slow readers.
        """
        if len(self.relays) > limits.CONNECTIONS_PER_WORKER:
            raise LimitReached(f"this worker serves {limits.CONNECTIONS_PER_WORKER} connections; raise host.workers")
        share = limits.CONNECTIONS_PER_WORKER // (len(self._of_peer) + 1)
        if len(self.relays) > limits.CONNECTIONS_UNSHARED and self._of_peer[peer] > share:
            raise LimitReached(f"{self._of_peer[peer]} connections of this worker are {peer}'s, and what is left is for others; raise host.workers")
        if self.budget.is_spent:
            raise LimitReached(f"{self.budget.used} bytes are held for slow readers, as many as a worker may hold")

    def _note_spent(self) -> None:
        """Bytes come in the middle of a session's turn: what has to go goes after it."""
        if not self._is_relief_due:
            self._is_relief_due = True
            asyncio.get_running_loop().call_soon(self._relieve)

    def _relieve(self) -> None:
        """Ends the fullest streams, until a part of the budget is free again: it looks at all, so not for each piece."""
        self._is_relief_due = False
        enough = self.budget.limit - self.budget.limit // limits.RELIEF_PARTS
        for tunnel, stream in fullest_first(self.tunnels):
            if self.budget.used <= enough:
                return
            all_of_it = f"the {self.budget.limit} of this worker are used up, and those that hold most end"
            self._end(tunnel, stream, LimitReached(f"{stream.held} bytes were held for a slow reader; {all_of_it}"))

    def _end(self, tunnel: Tunnel, stream: Stream, error: LimitReached) -> None:
        """The connection that it carries; where that is over and only its bytes are left, they, and the tunnel's row says so."""
        if isinstance(stream.handler, StreamEnd):
            stream.handler.condemn(error)
        if not stream.is_closed:
            code = RESET_CODES[Reason.LIMIT]
            stream.reset(code)
            self.note_tunnel(tunnel, error)
            if stream.handler:
                stream.handler.on_reset(code)

    def note_tunnel(self, tunnel: Tunnel, error: AgentError) -> None:
        """Records what has happened to a tunnel besides its connections: it may have carried none."""
        now = self.now()
        self.records.append(ConnectionRow(
            id=self.next_id(), direction="tunnel", client=str(tunnel.address) if tunnel.address.ip else "",
            original_dst="", opened_at=tunnel.opened_at, closed_at=now, source=tunnel.source, destination=tunnel.destination,
            peer=tunnel.peer, reason=error.reason, side=error.side, error=str(error)[: limits.ERROR_CHARS],
        ))  # fmt: skip

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`, which records its own failures, and keeps it alive until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self, relay: Relay) -> None:
        """A relay has ended: counted, recorded, forgotten."""
        self.relays.pop(relay.row.id, None)
        if relay.row.direction == "tunnel":
            _take_one(self._of_peer, relay.row.peer)
        self.held.discard(relay)
        self._note_quiet()
        if relay.upstream:
            self._closed_sent += relay.row.sent
            self._closed_received += relay.row.received
        self.records.append(relay.row)

    def keep_tunnel(self, tunnel: Tunnel) -> None:
        """An open tunnel, either side: known until it is lost."""
        self.tunnels.add(tunnel)
        if not tunnel.is_client:
            self.accepted_from[tunnel.address.ip] += 1
        tunnel.on_lost.append(self._forget_tunnel)
        self._note_quiet()

    def _forget_tunnel(self, tunnel: Tunnel) -> None:
        self.tunnels.discard(tunnel)
        if not tunnel.is_client:
            _take_one(self.accepted_from, tunnel.address.ip)
        self._note_quiet()

    def _note_quiet(self) -> None:
        """Keeps the two facts that a drain waits for: no connection, and no tunnel either."""
        for event, is_so in ((self.is_empty, not self.relays), (self.is_quiet, not self.relays and not self.tunnels)):
            if is_so:
                event.set()
            else:
                event.clear()

    def traffic(self) -> tuple[int, int]:
        """Bytes (sent, received) relayed since the worker started, those of open connections included."""
        for relay in self.relays.values():
            relay.count()
        rows = [relay.row for relay in self.relays.values() if relay.upstream]
        return self._closed_sent + sum(r.sent for r in rows), self._closed_received + sum(r.received for r in rows)

    def report(self, error: Exception) -> None:
        """A defect's traceback goes to standard error; a flood of them does not."""
        minute = int(self.now() // 60)
        if minute != self._defects_minute:
            self._defects_minute, self._defects = minute, 0
        self._defects += 1
        if self._defects <= _DEFECTS_A_MINUTE:
            traceback.print_exception(error, file=sys.stderr)


def _take_one(counts: Counter[str], name: str) -> None:
    """One less; what has none is not there, for the counts must not grow with every name that ever was."""
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
