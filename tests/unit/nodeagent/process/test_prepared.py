"""Prepared sockets, asked for as a worker does."""

import asyncio
import errno
import os
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import prepared
from nodeagent.process.channel import WorkerChannel
from nodeagent.process.prepared import PreparedSockets
from nodeagent.wire import requests
from tests.support.loop import run, until
from tests.support.worker_end import WorkerEnd


class Scene(WorkerEnd):
    """A channel with the test at the worker's end. Owned by one test."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.lost: list[str] = []
        self.channel = WorkerChannel(loop, ours, lambda data: self.prepared.note_ask(data), self.lost.append)  # noqa: PLW0108 - made below
        self.prepared = PreparedSockets(loop, 3, self.channel)


def play(script: Any) -> None:
    """Runs `script(scene)` on a loop."""

    async def whole() -> None:
        scene = Scene()
        try:
            await script(scene)
        finally:
            scene.prepared.stop()
            scene.channel.close()
            scene.sock.close()

    run(whole)


def test_what_a_predecessor_was_asked_for_is_made() -> None:
    """Nobody asks again for it."""

    async def script(scene: Scene) -> None:
        scene.prepared.go_on({4: 1, 6: 0})
        data, descriptors = await until(scene.hear, "a batch")
        assert (requests.decode_family(data), len(descriptors)) == (4, limits.PREPARED_SOCKETS)
        for descriptor in descriptors:
            os.close(descriptor)
        await until(lambda: scene.prepared.asks == {4: 0, 6: 0}, "no more")

    play(script)


def test_one_batch_of_sockets_is_made_per_turn_and_every_ask_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many asks come at once, others are heard in between; beyond what a worker asks for they are not kept."""
    turns: list[int] = []
    made = prepared.make_prepared_socket

    async def script(scene: Scene) -> None:
        turn = 0

        def count_turn() -> None:
            nonlocal turn
            turn += 1
            asyncio.get_running_loop().call_soon(count_turn)

        def make(family: int) -> socket.socket:
            turns.append(turn)
            return made(family)

        monkeypatch.setattr(prepared, "make_prepared_socket", make)
        monkeypatch.setattr(limits, "PREPARED_SOCKETS", 2)
        monkeypatch.setattr(limits, "PREPARED_ASKS", 3)
        count_turn()
        for _ in range(5):
            scene.say(requests.encode_family(requests.WANT_SOCKETS, 4))
        answers = 0
        while answers < 3:
            _, descriptors = await until(scene.hear, "a batch")
            assert len(descriptors) == 2
            for descriptor in descriptors:
                os.close(descriptor)
            answers += 1
        assert len(turns) == 6
        assert len(set(turns)) == 3

    play(script)


def test_without_descriptors_what_there_is_is_given_and_the_next_batch_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the log, however often the worker asks."""
    monkeypatch.setattr(limits, "PREPARED_AGAIN_S", 0.2)
    answered: list[float] = []

    def refuse(_family: int) -> socket.socket:
        answered.append(asyncio.get_running_loop().time())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(prepared, "make_prepared_socket", refuse)

    async def script(scene: Scene) -> None:
        for _ in range(3):
            scene.say(requests.encode_family(requests.WANT_SOCKETS, 4))
        for _ in range(3):
            data, descriptors = await until(scene.hear, "an answer")
            assert (data, descriptors) == (requests.encode_family(requests.SOCKETS, 4), [])
        assert answered[2] - answered[0] >= 0.38
        assert scene.lost == []

    with capture_logs() as log:
        play(script)
    assert [line["event"] for line in log] == ["prepared_sockets_failed"]


def test_a_family_without_sockets_does_not_hold_up_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host without IPv6, whose worker asks for it again and again."""
    monkeypatch.setattr(limits, "PREPARED_AGAIN_S", 3600.0)
    made = prepared.make_prepared_socket

    def make(family: int) -> socket.socket:
        if family == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family)

    monkeypatch.setattr(prepared, "make_prepared_socket", make)

    async def script(scene: Scene) -> None:
        for family in (6, 6, 4, 4):
            scene.say(requests.encode_family(requests.WANT_SOCKETS, family))
        answers = []
        for _ in range(3):
            data, descriptors = await until(scene.hear, "an answer")
            answers.append((requests.decode_family(data), len(descriptors)))
            for descriptor in descriptors:
                os.close(descriptor)
        assert sorted(answers) == [(4, limits.PREPARED_SOCKETS), (4, limits.PREPARED_SOCKETS), (6, 0)]

    play(script)
