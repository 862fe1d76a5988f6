"""The supervisor's end of a worker's channel."""

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.process.channel import WorkerChannel
from nodeagent.wire import requests
from tests.support.loop import run, until


class Ends:
    """A channel, the worker's socket, and what came of both. Owned by one scene."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.lost: list[str] = []
        ours, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.worker.setblocking(False)
        self.channel = WorkerChannel(asyncio.get_running_loop(), ours, self._hear, self.lost.append)

    def _hear(self, data: bytes) -> None:
        if data == b"nonsense":
            raise FrameError("kind 110")
        self.heard.append(data)

    def close(self) -> None:
        """Both ends."""
        self.channel.close()
        self.worker.close()


def scene(play: Any) -> None:
    """Runs `play(ends)` on a loop."""

    async def whole() -> None:
        ends = Ends()
        try:
            await play(ends)
        finally:
            ends.close()

    run(whole)


def test_messages_go_both_ways_with_descriptors() -> None:
    """And the descriptors that were sent are closed here."""

    async def play(ends: Ends) -> None:
        passed, kept = socket.socketpair()
        ends.channel.send(b"hello", [passed])
        data, descriptors, _, _ = socket.recv_fds(ends.worker, 100, 4)
        assert (data, passed.fileno()) == (b"hello", -1)
        os.write(descriptors[0], b"x")
        assert kept.recv(1) == b"x"
        os.close(descriptors[0])
        kept.close()
        ends.worker.send(b"answer")
        await until(lambda: ends.heard == [b"answer"], "the answer")

    scene(play)


def test_what_does_not_fit_waits_in_order() -> None:
    """Nothing is lost when a worker reads late."""

    async def play(ends: Ends) -> None:
        sent = [number.to_bytes(4, "big") for number in range(5000)]
        for data in sent:
            ends.channel.send(data)
        assert ends.channel.has_waiting(sent[-1])
        assert not ends.channel.has_waiting(sent[0])
        received: list[bytes] = []

        def read_all() -> bool:
            try:
                while True:
                    received.append(ends.worker.recv(100))
            except BlockingIOError:
                return len(received) == len(sent)

        await until(read_all, "all of them")
        assert received == sent
        assert ends.lost == []

    scene(play)


def test_a_worker_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit, once; descriptors that wait are closed."""
    monkeypatch.setattr(limits, "CHANNEL_MESSAGES", 10)

    async def play(ends: Ends) -> None:
        kept = []
        while not ends.lost:
            passed, other = socket.socketpair()
            kept.append(other)
            ends.channel.send(b"x" * 500, [passed])
            assert len(kept) < 10_000
        assert ends.lost == ["does not read its channel"]
        ends.channel.send(b"more", [kept.pop()])
        assert len(ends.lost) == 1
        while True:
            try:
                for fd in socket.recv_fds(ends.worker, 1000, 4)[1]:
                    os.close(fd)
            except BlockingIOError:
                break
            if not socket.recv_fds(ends.worker, 1000, 4, socket.MSG_PEEK)[0]:
                break
        for sock in kept:
            sock.close()

    scene(play)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"nonsense", "sent nonsense: kind 110"),
        (b"x" * (requests.MESSAGE_BYTES_MAX + 1), "sent nonsense: a message that is too long"),
        (b"x" * 4096, "sent nonsense: a message that is too long"),
    ],
)
def test_nonsense_ends_the_channel_with_its_reason(data: bytes, why: str) -> None:
    """A worker that speaks otherwise is not ours any more."""

    async def play(ends: Ends) -> None:
        ends.worker.send(data)
        await until(lambda: ends.lost == [why], why)

    scene(play)


def test_the_end_of_a_worker_is_told_once() -> None:
    """Also when something is sent afterwards."""

    async def play(ends: Ends) -> None:
        ends.worker.close()
        ends.channel.send(b"x")
        await until(lambda: ends.lost, "the loss")
        ends.channel.send(b"y")
        assert len(ends.lost) == 1

    scene(play)


def test_one_turn_takes_a_bounded_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker cannot hold the loop for ever."""
    monkeypatch.setattr(limits, "CHANNEL_TURN", 3)

    async def play(ends: Ends) -> None:
        for _ in range(5):
            ends.worker.send(b"q")
        ends.channel._receive()
        assert len(ends.heard) == 3

    scene(play)


@pytest.mark.parametrize("code", [errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM])
def test_a_kernel_that_is_short_of_something_costs_no_worker(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would not take is sent again, with its descriptors and in order."""
    monkeypatch.setattr(limits, "RESEND_S", 0.01)

    async def play(ends: Ends) -> None:
        ends.channel._socket = short = Short(ends.channel._socket, code)
        passed, kept = socket.socketpair()
        ends.channel.send(b"first", [passed])
        ends.channel.send(b"second")
        assert short.refusals == 1
        received: list[tuple[bytes, int]] = []

        def read() -> bool:
            try:
                data, fds, _, _ = socket.recv_fds(ends.worker, 100, 4)
            except BlockingIOError:
                return False
            for fd in fds:
                os.close(fd)
            received.append((data, len(fds)))
            return len(received) == 2

        await until(read, "both")
        assert received == [(b"first", 1), (b"second", 0)]
        assert (ends.lost, passed.fileno()) == ([], -1)
        kept.close()

    scene(play)


class Short:
    """A socket over which the kernel refuses the first message. Owned by one scene."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self.refusals = 0
        self._sock = sock
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, *arguments: Any) -> int:
        if not self.refusals:
            self.refusals += 1
            raise OSError(self._code, os.strerror(self._code))
        return self._sock.sendmsg(*arguments)
