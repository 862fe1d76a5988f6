"""Tunnel handshakes in flight, by source: how many one address may have, and who gives way when it has too many."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent import limits


class Knock:
    """One handshake. Owned by the task that serves it."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.gave_way = False
        """Whether its place was given to a newer one."""


class Hall:
    """Where handshakes wait for their ClientHello, or for the rest of TLS. Owned by the worker's Welcome.

    Whoever has not said what it wants gives way to whoever came later: else some silent connections, which any process
    of a host can open, would keep that host's own agent out for as long as a handshake may take. A handshake whose
    hello has come is never given up for another: under load none would be finished.
    """

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._unread: defaultdict[str, dict[Knock, asyncio.Timeout]] = defaultdict(dict)

    def enter(self, ip: str) -> Knock | None:
        """A place for a handshake with that address; None: all are taken by others that have said what they want."""
        if self._count[ip] >= limits.HANDSHAKES_PER_SOURCE and not self._make_room(ip):
            return None
        self._count[ip] += 1
        return Knock(ip)

    def leave(self, knock: Knock) -> None:
        """The handshake is over, in whatever way."""
        if not knock.gave_way:
            self._free(knock.ip)

    @contextmanager
    def unread(self, knock: Knock, deadline: asyncio.Timeout) -> Iterator[None]:
        """The time in which a whole hello has not come: the wait within `deadline` may end for a newer one's sake."""
        self._unread[knock.ip][knock] = deadline
        try:
            yield
        finally:
            self._forget(knock)

    def _make_room(self, ip: str) -> bool:
        """Ends the oldest wait for a hello."""
        knock = next(iter(self._unread.get(ip, ())), None)
        if knock is None:
            return False
        deadline = self._unread[ip][knock]
        self._forget(knock)
        self._free(ip)
        knock.gave_way = True
        if not deadline.expired():  # else its own time is up in this very turn
            deadline.reschedule(asyncio.get_running_loop().time())
        return True

    def _forget(self, knock: Knock) -> None:
        waiting = self._unread.get(knock.ip, {})
        waiting.pop(knock, None)
        if not waiting:
            self._unread.pop(knock.ip, None)

    def _free(self, ip: str) -> None:
        self._count[ip] -= 1
        if not self._count[ip]:
            del self._count[ip]
