"""What systemd is told: ready, stopping, alive, and one line of status. Without systemd: nothing."""

import os
import socket
from collections.abc import Mapping, MutableMapping

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


def without_systemd(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for children: they must not speak to systemd in our name."""
    return {key: value for key, value in environ.items() if key not in _OURS}


class Notifier:
    """The service manager's ear. Owned by the supervisor."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        self._address = notify_address(environ)
        self._is_watched = is_watched(environ, pid)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def ready(self, status: str) -> None:
        """Connections are served."""
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def stopping(self, status: str) -> None:
        """No new connections."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """Feeds the watchdog, where there is one."""
        if self._is_watched:
            self._send("WATCHDOG=1")

    def close(self) -> None:
        """Gives the descriptor back."""
        self._socket.close()

    def _send(self, text: str) -> None:
        """A manager that does not listen is not our failure: it will see the process end."""
        if not self._address:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return
