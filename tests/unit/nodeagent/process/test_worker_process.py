"""A worker's states, and its requests, with the test at the worker's end of the channel."""

import asyncio
import errno
import os
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import worker_process
from nodeagent.process.worker_process import TRANSITIONS, Event, State, WorkerCalls, WorkerProcess
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion
from tests.support.loop import run, until

QUESTION = OwnerQuestion(7, b"\x0a\0\0\1", 40000, b"\x7f\0\0\1", 15001)


class Scene:
    """A worker whose process is this test. Owned by one test."""

    def __init__(self) -> None:
        self.ends: list[int | None] = []
        self.ready = 0
        self.renewed: list[float] = []
        loop = asyncio.get_running_loop()
        calls = WorkerCalls(
            lambda asked, tell: tell(OwnerAnswer(asked.number, 1001, "shop.service")), self._note_ready,
            lambda _worker: self.renewed.append(loop.time()), lambda _worker, code: self.ends.append(code),
        )  # fmt: skip
        self.worker = WorkerProcess(loop, 3, 1, calls)
        self.sock = self.worker.ends.supervisor.dup()
        self.sock.setblocking(False)

    def _note_ready(self) -> None:
        self.ready += 1

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


def play(script: Any) -> None:
    """Runs `script(scene)` on a loop."""

    async def whole() -> None:
        scene = Scene()
        try:
            await script(scene)
        finally:
            scene.worker.finish(None)
            scene.sock.close()

    run(whole)


def test_a_dead_worker_is_never_alive_again_and_a_draining_one_never_serves() -> None:
    """The table of states is closed."""
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.DEAD] == {}
    assert State.SERVING not in TRANSITIONS[State.DRAINING].values()
    assert all(Event.END in TRANSITIONS[state] for state in State if state != State.DEAD)


def test_ready_makes_it_serve_and_a_second_ready_is_nonsense() -> None:
    """A worker that speaks out of order is replaced."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_beat(requests.READY))
        await until(lambda: scene.worker.state == State.SERVING, "serving")
        assert scene.ready == 1
        scene.say(requests.encode_beat(requests.READY))
        await until(lambda: scene.ends == [None], "given up")
        assert scene.worker.state == State.DEAD

    play(script)


def test_a_pong_is_remembered() -> None:
    """Which the heartbeat judges by."""

    async def script(scene: Scene) -> None:
        scene.worker.ping(5)
        heard = await until(scene.hear, "the ping")
        assert heard[0] == requests.encode_beat(requests.PING, 5)
        scene.worker.answered_at = 0.0
        scene.say(requests.encode_beat(requests.PONG, 5))
        await until(lambda: scene.worker.answered_at > 0.0, "the pong")

    play(script)


@pytest.mark.parametrize("family", [4, 6])
def test_sockets_come_in_one_batch(family: int) -> None:
    """64 of them, transparent and marked."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_family(requests.WANT_SOCKETS, family))
        data, descriptors = await until(scene.hear, "the sockets")
        assert requests.decode_family(data) == family
        assert len(descriptors) == limits.PREPARED_SOCKETS
        for descriptor in descriptors:
            with socket.socket(fileno=descriptor) as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, 36) == limits.UPSTREAM_MARK

    play(script)


def test_an_owner_is_answered_with_the_questions_number() -> None:
    """By whoever finds owners."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_question(QUESTION))
        data, _ = await until(scene.hear, "the answer")
        assert requests.decode_answer(data) == OwnerAnswer(7, 1001, "shop.service")

    play(script)


def test_a_new_control_gets_a_channel_of_its_own() -> None:
    """The worker gets the other end beside CONTROL."""

    async def script(scene: Scene) -> None:
        with scene.worker.renew_control() as ours:
            data, descriptors = await until(scene.hear, "the channel")
            assert data == requests.encode_beat(requests.CONTROL)
            os.write(descriptors[0], b"x")
            assert ours.recv(1) == b"x"
            os.close(descriptors[0])

    play(script)


def test_marks_are_told() -> None:
    """One message each."""

    async def script(scene: Scene) -> None:
        scene.worker.tell_unit(0x5A000001, "shop.service")
        data, _ = await until(scene.hear, "the mark")
        assert requests.decode_unit(data) == (0x5A000001, "shop.service")

    play(script)


@pytest.mark.parametrize("data", [b"\xff", bytes([requests.OWNER]), bytes([requests.WANT_OWNER]) + b"short", b"\x01\x05"])
def test_nonsense_costs_the_worker_its_life(data: bytes) -> None:
    """It is not ours any more."""

    async def script(scene: Scene) -> None:
        scene.say(data)
        await until(lambda: scene.ends == [None], "given up")

    play(script)


def test_a_draining_worker_may_close_its_channel() -> None:
    """Its end follows by itself."""

    async def script(scene: Scene) -> None:
        scene.worker.drain()
        data, _ = await until(scene.hear, "the order")
        assert data[0] == requests.DRAIN
        scene.worker.ends.supervisor.close()
        scene.say(requests.encode_beat(requests.DRAINED))
        scene.sock.close()
        lost = scene.worker._channel
        await until(lambda: not lost._is_open, "the channel is closed")
        assert scene.ends == []
        assert scene.worker.state == State.DRAINING

    play(script)


def test_a_worker_without_control_gets_a_channel_at_once_and_then_not_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again meanwhile, it gets another one later: no ask is lost."""
    monkeypatch.setattr(limits, "RENEW_GAP_S", 0.2)

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: len(scene.renewed) == 1, "the first")
        for _ in range(20):
            scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: len(scene.renewed) == 2, "the second")
        assert scene.renewed[1] - scene.renewed[0] >= 0.19
        scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: len(scene.renewed) == 3, "the third")
        assert scene.ends == []

    play(script)


def test_one_batch_of_sockets_is_made_per_turn_and_every_ask_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many asks come at once, others are heard in between; beyond what a worker asks for they are not kept."""
    turns: list[int] = []
    made = worker_process.make_prepared_socket

    async def script(scene: Scene) -> None:
        turn = 0

        def count_turn() -> None:
            nonlocal turn
            turn += 1
            asyncio.get_running_loop().call_soon(count_turn)

        def make(family: int) -> socket.socket:
            turns.append(turn)
            return made(family)

        monkeypatch.setattr(worker_process, "make_prepared_socket", make)
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

    monkeypatch.setattr(worker_process, "make_prepared_socket", refuse)

    async def script(scene: Scene) -> None:
        for _ in range(3):
            scene.say(requests.encode_family(requests.WANT_SOCKETS, 4))
        for _ in range(3):
            data, descriptors = await until(scene.hear, "an answer")
            assert (data, descriptors) == (requests.encode_family(requests.SOCKETS, 4), [])
        assert answered[2] - answered[0] >= 0.38
        assert scene.ends == []

    with capture_logs() as log:
        play(script)
    assert [line["event"] for line in log] == ["prepared_sockets_failed"]


def test_a_family_without_sockets_does_not_hold_up_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host without IPv6, whose worker asks for it again and again."""
    monkeypatch.setattr(limits, "PREPARED_AGAIN_S", 3600.0)
    made = worker_process.make_prepared_socket

    def make(family: int) -> socket.socket:
        if family == 6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return made(family)

    monkeypatch.setattr(worker_process, "make_prepared_socket", make)

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


@pytest.mark.parametrize("kind", [requests.READY, requests.DRAINED])
def test_what_makes_a_log_line_is_said_once(kind: int) -> None:
    """A worker that was taken over does not fill the disk: the second time ends its channel."""

    async def script(scene: Scene) -> None:
        scene.worker.drain()
        scene.say(requests.encode_beat(kind))
        scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: scene.renewed, "both are heard")
        scene.say(requests.encode_beat(kind))
        await until(lambda: not scene.worker._channel._is_open, "the channel is closed")

    play(script)


def test_drained_is_nothing_for_a_worker_that_serves() -> None:
    """It is replaced."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_beat(requests.READY))
        scene.say(requests.encode_beat(requests.DRAINED))
        await until(lambda: scene.ends == [None], "given up")

    play(script)


def test_without_descriptors_no_half_made_worker_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened for it is closed."""
    real, opened = socket.socketpair, []

    def pair_once(*arguments: int) -> tuple[socket.socket, socket.socket]:
        if opened:
            raise OSError(errno.EMFILE, "Too many open files")
        opened.extend(real(*arguments))
        return opened[0], opened[1]

    monkeypatch.setattr(socket, "socketpair", pair_once)
    with pytest.raises(OSError, match="Too many open files"):
        worker_process._make_channels()
    assert [sock.fileno() for sock in opened] == [-1, -1]


@pytest.mark.parametrize(("wait_s", "code"), [(3600.0, 7), (0.0, None)])
def test_a_spawner_has_a_moment_to_tell_why_a_worker_ended(wait_s: float, code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is seen before the reason; without a word from the spawner the worker is over all the same."""
    monkeypatch.setattr(limits, "EXIT_CODE_S", wait_s)

    async def script(scene: Scene) -> None:
        scene.worker._see_end(None)
        assert scene.ends == []
        if code is not None:
            scene.worker._see_end(code)
        await until(lambda: scene.ends == [code], "the end")

    play(script)
