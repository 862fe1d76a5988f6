"""The worker's end of its channel to the supervisor, in a test's hands; and where its lifeline is kept."""

import os
import socket
from collections.abc import Sequence


class WorkerEnd:
    """What a worker says and hears. Owned by one test."""

    sock: socket.socket
    """Does not block."""

    def say(self, data: bytes) -> None:
        """The worker says something."""
        self.sock.send(data)

    def hear(self) -> tuple[bytes, list[int]] | None:
        """What the worker got; None: nothing yet."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.sock, 600, 64)
        except BlockingIOError:
            return None
        return data, descriptors


class Kept(dict[str, int]):
    """What a service manager keeps. Owned by one test."""

    def keep(self, name: str, descriptors: Sequence[int]) -> None:
        """Copies."""
        (self[name],) = map(os.dup, descriptors)

    def forget(self, name: str) -> None:
        """Closes it, if it is there."""
        if name in self:
            os.close(self.pop(name))
