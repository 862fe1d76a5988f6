"""The worker's end of its channel to the supervisor, in a test's hands."""

import socket


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
