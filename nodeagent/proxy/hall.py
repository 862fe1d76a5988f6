"""Tunnel handshakes in flight, by source: how many one address may have, and who gives way when it has too many."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from nodeagent import limits


class Knock:
    """One handshake. Owned by the task that serves it."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.since = 0.0
        """When it began to wait, by the loop's clock."""
        self.is_silent: Callable[[], bool] = lambda: True
        self.gave_way = False
        """Whether its place was given to a newer one."""


_Waits = defaultdict[str, dict[Knock, asyncio.Timeout]]
"""By source; the oldest first."""


class Hall:
    """Where handshakes wait for their ClientHello, or for the rest of TLS. Owned by the worker's Welcome.

    Whoever has not said what it wants, or wants what is not known here, gives way to whoever came later: else some silent connections would keep a host's own
    agent out for as long as a handshake may take. One whose hello has come gives way only where none such is left, and it
    has been silent for longer than a peer takes at load: else none would be finished. A hello proves nothing, it can be replayed.
    """

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._unread: _Waits = defaultdict(dict)
        self._unknown: _Waits = defaultdict(dict)
        self._heard: _Waits = defaultdict(dict)

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

    def unread(self, knock: Knock, deadline: asyncio.Timeout) -> AbstractContextManager[None]:
        """The time in which a whole hello has not come: the wait within `deadline` may end for a newer one's sake."""
        return _waiting(self._unread, knock, deadline)

    def unknown(self, knock: Knock, deadline: asyncio.Timeout) -> AbstractContextManager[None]:
        """The time in which it is found out whether the service that the hello names is here: as above, where no other is silent."""
        return _waiting(self._unknown, knock, deadline)

    @contextmanager
    def heard(self, knock: Knock, deadline: asyncio.Timeout, is_silent: Callable[[], bool]) -> Iterator[None]:
        """The time in which TLS goes on after the hello: as above, once it has lasted for HANDSHAKE_STALLED_S.

        is_silent: whether the peer owes the next word; what we have not read yet is our own delay.
        """
        knock.is_silent = is_silent
        with _waiting(self._heard, knock, deadline):
            yield

    def _make_room(self, ip: str) -> bool:
        """Ends the oldest wait for a hello; else the oldest for a service that is not known here, and for what follows a hello."""
        waits = self._unread if self._unread.get(ip) else self._unknown
        knock = _oldest(waits, ip)
        if knock is None:
            waits, knock = self._heard, _oldest(self._heard, ip)
            if knock is None or asyncio.get_running_loop().time() - knock.since < limits.HANDSHAKE_STALLED_S or not knock.is_silent():
                return False
        deadline = waits[ip][knock]
        _forget(waits, knock)
        self._free(ip)
        knock.gave_way = True
        if not deadline.expired():  # else its own time is up in this very turn
            deadline.reschedule(asyncio.get_running_loop().time())
        return True

    def _free(self, ip: str) -> None:
        self._count[ip] -= 1
        if not self._count[ip]:
            del self._count[ip]


@contextmanager
def _waiting(waits: _Waits, knock: Knock, deadline: asyncio.Timeout) -> Iterator[None]:
    knock.since = asyncio.get_running_loop().time()
    waits[knock.ip][knock] = deadline
    try:
        yield
    finally:
        _forget(waits, knock)


def _oldest(waits: _Waits, ip: str) -> Knock | None:
    return next(iter(waits.get(ip, ())), None)


def _forget(waits: _Waits, knock: Knock) -> None:
    those = waits.get(knock.ip, {})
    those.pop(knock, None)
    if not those:
        waits.pop(knock.ip, None)
