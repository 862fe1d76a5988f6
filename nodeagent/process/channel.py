"""The supervisor's end of one worker's channel: messages in, messages and descriptors out, never a wait."""

import array
import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.wire import requests

PASSING = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors that are no fault of the other end: too many descriptors open, or on their way to processes of ours."""


class Outgoing(NamedTuple):
    """A message that waits for room."""

    data: bytes
    sockets: tuple[socket.socket, ...]
    are_lent: bool
    """Whether the sockets stay open here when it has been sent."""

    def let_go(self) -> None:
        """It is sent, or never will be."""
        for sock in () if self.are_lent else self.sockets:
            sock.close()


class WorkerChannel:
    """A SEQPACKET socket to one worker, which is not trusted. Owned by the fleet.

    `on_message` may raise FrameError; that, a worker that reads nothing, and the end of the channel all come to
    `on_lost` with a reason, once.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket,
        on_message: Callable[[bytes], None], on_lost: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._socket = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._waiting: deque[Outgoing] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._is_open = True
        sock.setblocking(False)
        loop.add_reader(sock, self._receive)

    def send(self, data: bytes, sockets: Sequence[socket.socket] = (), *, are_lent: bool = False) -> None:
        """Sends now or as soon as there is room; `sockets` are closed here afterwards, unless they are lent."""
        message = Outgoing(data, tuple(sockets), are_lent)
        if not self._is_open:
            message.let_go()
        elif len(self._waiting) >= limits.CHANNEL_MESSAGES:
            message.let_go()
            self._lose("does not read its channel")
        else:
            self._waiting.append(message)
            if len(self._waiting) == 1:
                self._flush()

    @property
    def is_open(self) -> bool:
        """Whether anything can still be said or heard."""
        return self._is_open

    @property
    def has_unsent(self) -> bool:
        """Whether anything waits for room."""
        return bool(self._waiting)

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def has_waiting(self, data: bytes) -> bool:
        """Whether the same message still waits for room: asked again, it need not be sent twice."""
        return any(waiting.data == data for waiting in self._waiting)

    def close(self) -> None:
        """Ends the channel; the worker sees its end and drains."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._retry:
            self._retry.cancel()
        self._socket.close()
        for waiting in self._waiting:
            waiting.let_go()
        self._waiting.clear()

    def _flush(self) -> None:
        while self._waiting:
            message = self._waiting[0]
            try:
                self._socket.sendmsg([message.data], _beside(message.sockets))
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError as error:
                if error.errno not in PASSING:
                    self._lose(f"cannot be written to: {error.strerror}")
                    return
                self._loop.remove_writer(self._socket)
                self._retry = self._loop.call_later(limits.RESEND_S, self._flush)
                return
            self._waiting.popleft()
            message.let_go()
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        """Takes what has come, at most CHANNEL_TURN messages, so that one worker cannot hold the supervisor."""
        try:
            for _ in range(limits.CHANNEL_TURN):
                data = self._socket.recv(requests.MESSAGE_BYTES_MAX + 1)
                if not data:
                    self._lose("closed its channel")
                    return
                self._on_message(_checked(data))
                if not self._is_open:
                    return
        except BlockingIOError:
            return
        except FrameError as error:
            self._lose(f"sent nonsense: {error}")
        except OSError as error:
            self._lose(f"cannot be read: {error.strerror}")

    def _lose(self, why: str) -> None:
        self.close()
        self._on_lost(why)


def _checked(data: bytes) -> bytes:
    """The message, unless it is longer than any of this protocol: then the kernel has cut it off."""
    if len(data) > requests.MESSAGE_BYTES_MAX:
        raise FrameError("a message that is too long")
    return data


def _beside(sockets: Sequence[socket.socket]) -> list[tuple[int, int, "array.array[int]"]]:
    if not sockets:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno() for sock in sockets]))]
