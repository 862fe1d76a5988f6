"""What systemd does for its services with descriptors, for an agent of a lab: kept while it restarts, handed to the next.

python -m nodeagent.lab.fd_store keep DIRECTORY              holds what it is sent by sd_notify, until it is killed
python -m nodeagent.lab.fd_store run DIRECTORY PROGRAM ARG…  becomes PROGRAM, with all that is held
"""

import fcntl
import os
import select
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_FIRST_FD = 3  # sd_listen_fds(3)
_AT_ONCE = 200  # descriptors in one message; the kernel takes 253
_BYTES = 4096
NOTIFY, HELD = "notify", "held"
"""Where the agent speaks to the store, and where its successor is given what is held; both in the host's directory."""


def fields_of(message: bytes) -> Mapping[str, str]:
    """What sd_notify was told, by its names."""
    pairs = (line.partition("=") for line in message.decode(errors="replace").splitlines())
    return {key: value for key, _, value in pairs}


class Store:
    """Descriptors by name. Owned by the program that keeps them."""

    def __init__(self) -> None:
        self.held: list[tuple[str, int]] = []

    def take(self, fields: Mapping[str, str], descriptors: Sequence[int]) -> None:
        """As systemd: FDSTORE adds, FDSTOREREMOVE closes all of that name; anything else is not meant for the store."""
        name = fields.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in fields:
            for each, fd in self.held:
                if each == name:
                    os.close(fd)
            self.held = [(each, fd) for each, fd in self.held if each != name]
        if "FDSTORE" in fields:
            self.held += [(name, fd) for fd in descriptors]
        else:
            for fd in descriptors:
                os.close(fd)

    def give(self, to: socket.socket) -> None:
        """All that is held, each message with the names of its descriptors."""
        for start in range(0, len(self.held), _AT_ONCE):
            part = self.held[start : start + _AT_ONCE]
            socket.send_fds(to, [":".join(name for name, _ in part).encode()], [fd for _, fd in part])


def keep(directory: Path) -> None:
    """Serves for ever."""
    for name in (NOTIFY, HELD):
        (directory / name).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as held:
        notify.bind(str(directory / NOTIFY))
        held.bind(str(directory / HELD))
        held.listen()
        serve(Store(), notify, held)


def serve(store: Store, notify: socket.socket, held: socket.socket) -> None:
    """What comes to either socket, for ever; a successor gets what its predecessor has said before."""
    notify.setblocking(False)
    while True:
        ready, _, _ = select.select([notify, held], [], [])
        _drain(store, notify)
        if held in ready:
            successor, _ = held.accept()
            with successor, suppress(ConnectionError):
                store.give(successor)


def _drain(store: Store, notify: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            message, descriptors, _, _ = socket.recv_fds(notify, _BYTES, _AT_ONCE)
            store.take(fields_of(message), descriptors)


def run(directory: Path, command: Sequence[str]) -> None:
    """Becomes the program; its descriptors begin at 3 and stand in its environment."""
    names, descriptors = _fetch(directory / HELD)
    beyond = _FIRST_FD + len(descriptors)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for fd in descriptors]  # above the places that they go to
    for place, fd in enumerate(high, _FIRST_FD):
        os.dup2(fd, place)
    told = {"NOTIFY_SOCKET": str(directory / NOTIFY)}
    if high:
        told |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": ":".join(names)}
    os.execvpe(command[0], list(command), {**os.environ, **told})  # noqa: S606 - the lab's own command


def _fetch(path: Path) -> tuple[list[str], list[int]]:
    names: list[str] = []
    descriptors: list[int] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        while True:
            message, got, _, _ = socket.recv_fds(sock, 64 * _BYTES, _AT_ONCE)
            if not message:
                return names, descriptors
            names += message.decode().split(":")
            descriptors += got


def main(arguments: Sequence[str]) -> None:
    """`keep DIRECTORY`, or `run DIRECTORY PROGRAM ARG…`."""
    verb, directory, *command = arguments
    if verb == "keep":
        keep(Path(directory))
    else:
        run(Path(directory), command)


if __name__ == "__main__":
    main(sys.argv[1:])
