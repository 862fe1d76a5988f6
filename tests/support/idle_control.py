"""A program that does nothing in control's place, and control's ends of its channels."""

import os
import socket
import subprocess

from nodeagent.wire.frames import Message, encode_frame


class Start:
    """Starts a program that does nothing in control's place, or fails as told. Owned by one test."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = [*failures]
        self.options: list[list[str]] = []
        self.handover: socket.socket | None = None
        self._channels: list[int] = []
        self.config = b""
        self.keys: list[int] = []

    def __call__(self, _module: str, arguments: list[str], descriptors: tuple[int, ...], *_: object) -> int:
        self.options.append(arguments)
        if self.failures:
            raise self.failures.pop(0)
        config, handover, channel, *self.keys = descriptors
        self._channels.append(os.dup(channel))
        self.config = os.pread(config, 100_000, 0)
        if self.handover:
            self.handover.close()
        self.handover = socket.socket(fileno=os.dup(handover))
        self.handover.setblocking(False)
        process = subprocess.Popen(["sleep", "1000"])
        process.returncode = 0  # it is reaped by pidfd
        return process.pid

    def say(self, message: Message) -> None:
        """As control, to the supervisor."""
        os.write(self._channels[-1], encode_frame(message))

    def close(self) -> None:
        """Control's ends."""
        if self.handover:
            self.handover.close()
        for channel in self._channels:
            os.close(channel)

    def passed(self) -> tuple[bytes, list[int]] | None:
        """What control was handed over."""
        assert self.handover
        try:
            data, descriptors, _, _ = socket.recv_fds(self.handover, 100, 4)
        except BlockingIOError:
            return None
        return data, descriptors
