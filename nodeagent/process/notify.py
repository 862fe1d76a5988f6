"""What systemd is told: ready, stopping, alive, one line of status, and which descriptors it shall keep for a successor.

Without systemd: nothing.
"""

import array
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.channel import PASSING

_log = open_log()
_FIRST_FD = 3  # sd_listen_fds(3)
_WORDS = 1024  # bytes of a status; systemd drops whole what is longer than 4096
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")


def notify_address(environ: Mapping[str, str]) -> str:
    """The address of systemd's socket for `socket.sendto`; empty: there is none."""
    path = environ.get("NOTIFY_SOCKET", "")
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else ""


def is_watched(environ: Mapping[str, str], pid: int) -> bool:
    """Whether systemd expects WATCHDOG=1 from this very process."""
    return environ.get("WATCHDOG_USEC", "").isdecimal() and environ.get("WATCHDOG_PID", str(pid)) == str(pid)


def is_main(environ: Mapping[str, str], pid: int) -> bool:
    """Whether this very process is a unit's, which systemd starts again with all that it keeps (systemd.exec(5), since 248)."""
    return bool(notify_address(environ)) and environ.get("SYSTEMD_EXEC_PID") == str(pid)


def without_systemd(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for children: they must not speak to systemd in our name."""
    return {key: value for key, value in environ.items() if key not in _OURS}


def take_stored(environ: MutableMapping[str, str], pid: int) -> list[tuple[str, int]]:
    """(name, descriptor) of all that the service manager has kept for this very process; told once, as the variables go.

    More than STORED are closed.
    """
    values = {key: environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = values["LISTEN_FDS"]
    if values["LISTEN_PID"] != str(pid) or not count.isdecimal():
        return []
    taken = range(_FIRST_FD, _FIRST_FD + min(int(count), limits.STORED))
    os.closerange(taken.stop, _FIRST_FD + int(count))  # a listening socket of which nobody knows would swallow connections
    return list(zip([*values["LISTEN_FDNAMES"].split(":"), *[""] * len(taken)], taken, strict=False))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the manager shall keep under a name."""

    descriptors: tuple[int, ...] = ()
    """Our own copies; none: nothing."""
    is_stale: bool = False
    """Whether what it keeps under this name now shall go first."""


class Notifier:
    """The service manager's ear. Owned by the supervisor."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._address = notify_address(environ)
        self._patience = f"WATCHDOG_USEC={environ.get('WATCHDOG_USEC', '')}\n" if is_watched(environ, pid) else ""
        """What the unit gives us between two signs of life; nothing: nobody watches."""
        self._is_away = True
        self._is_stopping = False
        self._state = ""
        """What we are, where the manager has not heard it yet."""
        self._words = ""
        """What is to be shown as our state, where the manager has not heard it yet."""
        self._unsent: dict[str, _Wanted] = {}
        """What the manager is still to be told, by name: the newest, as all before it would be undone by it."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def ready(self, status: str) -> None:
        """Connections are served."""
        if not self._is_stopping:
            self._become(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def says(self, status: str) -> None:
        """In `systemctl status` there is this instead, until it is ready or stopping."""
        if self._address and not self._is_stopping:
            line = "".join(each if each.isprintable() else "?" for each in " ".join(status.split()))  # a second line would be an order of its own
            self._words = f"STATUS={line.encode(errors='replace')[:_WORDS].decode(errors='ignore')}"
            self.flush()

    def stopping(self, status: str) -> None:
        """No new connections; it is never ready again."""
        self._is_stopping = True
        self._become(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """Feeds the watchdog, where there is one; it is as strict again as the unit says."""
        self.flush()
        if self._patience:
            self._is_away &= not self._tell(f"{self._patience if self._is_away else ''}WATCHDOG=1")

    def away(self, seconds: float) -> bool:
        """Feeds the watchdog for so long: this process becomes another program. Whether the manager will hear it."""
        if self._patience and not self._tell(f"WATCHDOG_USEC={round(seconds * 1e6)}\nWATCHDOG=1"):
            return False
        self._is_away = True
        return True

    def store(self, name: str, descriptors: Sequence[int], *, is_instead: bool = False) -> bool:
        """A successor gets these under this name, whatever becomes of this process; whether there were descriptors for copies.

        is_instead: of what it would get by that name now, which it gets still where there were none.
        """
        if not self._address:
            return True
        copies: list[int] = []
        try:
            for fd in descriptors:
                copies.append(os.dup(fd))  # noqa: PERF401 - those made before a failure are closed
        except OSError as error:
            _close(copies)
            _log.error("descriptors_not_stored", name=name, error=str(error), effect="after a crash the next agent is without them")
            return False
        before = self._unsent.get(name)
        self._want(name, _Wanted(tuple(copies), is_stale=is_instead or (before is not None and before.is_stale)))
        return True

    def forget(self, name: str) -> None:
        """It gets nothing of this name any more."""
        if self._address:
            self._want(name, _Wanted(is_stale=True))

    @property
    def is_there(self) -> bool:
        """Whether there is a manager."""
        return bool(self._address)

    @property
    def has_unsent(self) -> bool:
        """Whether a slow manager has not heard yet what we are, or what it shall keep."""
        return bool(self._unsent or self._state or self._words)

    def close(self) -> None:
        """Gives the descriptors back."""
        for wanted in self._unsent.values():
            _close(wanted.descriptors)
        self._unsent.clear()
        self._socket.close()

    def flush(self) -> None:
        """Sends what waits; a manager that is slow gets the rest with the next beat."""
        if self._state and self._tell(self._state):
            self._state = ""
        if self._words and not self._state and self._tell(self._words):
            self._words = ""
        while self._unsent:
            name, wanted = next(iter(self._unsent.items()))
            if wanted.is_stale and not self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}"):
                return
            self._unsent[name] = replace(wanted, is_stale=False)
            if wanted.descriptors and not self._tell(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", wanted.descriptors):
                return
            _close(self._unsent.pop(name).descriptors)

    def _become(self, state: str) -> None:
        self._state, self._words = state if self._address else "", ""
        self.flush()

    def _want(self, name: str, wanted: "_Wanted") -> None:
        """Instead of what was wanted before, in its place in the queue."""
        if before := self._unsent.get(name):
            _close(before.descriptors)
        self._unsent[name] = wanted
        self.flush()

    def _tell(self, text: str, descriptors: Sequence[int] = ()) -> bool:
        """Whether it need not be tried again."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([text.encode()], beside, 0, self._address)
        except BlockingIOError:
            return False
        except OSError as error:  # nobody is there, or nobody who takes descriptors: no failure of ours
            return error.errno not in PASSING
        return True


def _close(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)
