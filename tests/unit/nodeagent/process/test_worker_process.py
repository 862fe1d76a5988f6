"""A worker's states, and its requests, with the test at the worker's end of the channel."""

import asyncio
import errno
import os
import socket
import subprocess
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from nodeagent import limits
from nodeagent.process import lifeline, worker_process
from nodeagent.process.lifeline import Holder, try_holder
from nodeagent.process.listeners import ListenerSocket
from nodeagent.process.orphans import born_tick
from nodeagent.process.worker_process import TRANSITIONS, Event, State, WorkerCalls, WorkerProcess
from nodeagent.wire import requests
from nodeagent.wire.requests import OwnerAnswer, OwnerQuestion
from tests.support.loop import run, until
from tests.support.worker_end import Kept, WorkerEnd

QUESTION = OwnerQuestion(7, b"\x0a\0\0\1", 40000, b"\x7f\0\0\1", 15001)


class Scene(WorkerEnd):
    """A worker whose process is this test. Owned by one test."""

    def __init__(self) -> None:
        self.ends: list[int | None] = []
        self.ready = 0
        self.renewed: list[float] = []
        loop = asyncio.get_running_loop()
        calls = WorkerCalls(
            lambda asked, tell: tell(OwnerAnswer(asked.number, 1001, "shop.service")), lambda _worker: self._note_ready(),
            lambda _worker: self.renewed.append(loop.time()), lambda _worker, code: self.ends.append(code),
        )  # fmt: skip
        self.worker = WorkerProcess(loop, 3, 1, calls)
        assert self.worker.ends
        self.sock = self.worker.ends.supervisor.dup()
        self.sock.setblocking(False)

    def _note_ready(self) -> None:
        self.ready += 1


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


def test_it_serves_once_it_is_ready_was_given_sockets_and_says_so() -> None:
    """Before, it is a spare; it says twice that it is ready, with less and with more knowledge."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_beat(requests.READY, 0))
        await until(lambda: scene.worker.state == State.STANDBY, "a spare")
        assert not scene.worker.is_informed
        scene.say(requests.encode_beat(requests.READY, 1))
        await until(lambda: scene.worker.is_informed, "it knows what the others know")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            scene.worker.listen([ListenerSocket("tunnel", 4, listener)])
            data, (fd,) = await until(scene.hear, "its sockets")
            assert requests.decode_listen(data) == [("tunnel", 4)]
            with socket.socket(fileno=fd) as given:
                assert given.getsockname() == listener.getsockname()
            assert listener.fileno() > 0
        assert scene.worker.state == State.OPENING
        scene.say(requests.encode_beat(requests.SERVING))
        await until(lambda: scene.worker.state == State.SERVING, "serving")
        assert (scene.ready, scene.worker.answered_at) == (3, scene.worker.told_at)

    play(script)


@pytest.mark.parametrize(
    "nonsense",
    [
        [requests.encode_beat(requests.READY)] * 2, [requests.encode_beat(requests.READY, 2)],
        [requests.encode_beat(requests.SERVING)], [requests.encode_beat(requests.ORPHANED, 5)],
    ],
)  # fmt: skip
def test_a_worker_that_speaks_out_of_order_is_replaced(nonsense: list[bytes]) -> None:
    """Twice the same, a number that means nothing, that it serves from sockets that it was not given, or has lost us."""

    async def script(scene: Scene) -> None:
        for data in nonsense:
            scene.say(data)
        await until(lambda: scene.ends == [None], "given up")
        assert scene.worker.state == State.DEAD

    play(script)


def test_a_drain_has_an_end_that_only_comes_nearer() -> None:
    """The worker is told the seconds; should it not end by itself, it is ended."""

    async def script(scene: Scene) -> None:
        scene.say(requests.encode_beat(requests.READY))
        await until(lambda: scene.worker.state == State.STANDBY, "a spare")
        loop = asyncio.get_running_loop()
        for within_s, told, left_s in ((30.0, 30, 30.0), (90.0, 90, 30.0), (0.0, 0, 30.0), (1.0, 1, 1.0)):
            scene.worker.drain(within_s)
            data, _ = await until(scene.hear, "the order")
            assert data == requests.encode_beat(requests.DRAIN, told)
            assert left_s - 1 < scene.worker.drain_until - loop.time() <= left_s
        assert scene.worker._end
        assert 0 < scene.worker._end.when() - scene.worker.drain_until < 2 * limits.CUT_SPREAD_S + 0.001

    play(script)


def test_it_is_passed_on_whole_and_goes_on() -> None:
    """To another supervisor's loop, here the same: its process, its channel, its state, and what it waits for."""

    async def script(scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        with subprocess.Popen(["sleep", "1000"]) as process:  # noqa: ASYNC220 - it only sleeps
            scene.worker.spawned(process.pid, os.pidfd_open(process.pid))
            scene.say(requests.encode_beat(requests.READY, 1))
            await until(lambda: scene.worker.state == State.STANDBY, "a spare")
            scene.worker.drain(60)
            assert await until(scene.hear, "the order") == (requests.encode_beat(requests.DRAIN, 60), [])
            passed = scene.worker.pass_on()
            copy = msgspec.structs.replace(passed, pidfd=os.dup(passed.pidfd), channel=os.dup(passed.channel), asks={4: 0, 6: 1})
            calls = WorkerCalls(lambda *_: None, lambda _: None, lambda _: None, lambda _worker, code: scene.ends.append(code))
            loop.remove_reader(passed.channel)
            heir = WorkerProcess.inherit(loop, copy, calls)
            assert (heir.pid, heir.serial, heir.number) == (process.pid, 1, 3)
            assert (heir.state, heir.is_informed, heir.drain_until) == (State.DRAINING, True, scene.worker.drain_until)
            again = await until(scene.hear, "the order again, as the first may never have left")
            assert again == (requests.encode_beat(requests.DRAIN, 60), [])
            await until(lambda: any(message[0][0] == requests.SOCKETS for message in iter(scene.hear, None)), "what it asked for")
            heir.pause()
            assert (await until(scene.hear, "the pause"))[0] == requests.encode_beat(requests.PAUSE)
            heir.kill()
            await until(lambda: heir.state == State.DEAD, "its end")
            assert heir.has_ended
            process.returncode = 0

    play(script)


@pytest.mark.parametrize(("told_s", "kept_s"), [(20, 20.0), (90, 60.0), (-20, 0.0), (float("inf"), 60.0), (float("-inf"), 0.0)])
def test_an_orphan_gets_no_more_time_than_it_had_nor_than_it_is_given(told_s: float, kept_s: float) -> None:
    """It says what an earlier supervisor has left it."""

    async def script(scene: Scene) -> None:
        scene.worker.drain(60)
        now = asyncio.get_running_loop().time()
        scene.say(requests.encode_beat(requests.ORPHANED, int(max(0, min(now + told_s, 2**32 - 1)))))
        scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: scene.renewed, "both are heard")
        assert kept_s - 1 < scene.worker.drain_until - now < kept_s + 5
        assert scene.worker._end

    play(script)


def test_a_lifeline_is_kept_from_birth_to_end_and_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Want of a descriptor costs the lifeline, not the worker; a successor of ours makes none anew."""
    kept = Kept()

    async def script(scene: Scene) -> None:
        calls = scene.worker._calls = replace(scene.worker._calls, keep=kept.keep, forget=kept.forget)
        with subprocess.Popen(["sleep", "1000"]) as process:  # noqa: ASYNC220 - it only sleeps
            scene.worker.spawned(process.pid, os.pidfd_open(process.pid))
            data, (fd,) = await until(scene.hear, "its lifeline")
            assert data == requests.encode_beat(requests.LIFELINE)
            ((name, line),) = kept.items()
            assert try_holder(name) == Holder(1, 3, process.pid, born_tick(process.pid), *scene.worker.origin)
            with socket.socket(fileno=fd) as theirs:
                theirs.send(b"here")
                assert os.read(line, 10) == b"here"
            passed = scene.worker.pass_on()
            assert passed.lifeline == name
            copy = msgspec.structs.replace(passed, pidfd=os.dup(passed.pidfd), channel=os.dup(passed.channel))
            asyncio.get_running_loop().remove_reader(passed.channel)
            heir = WorkerProcess.inherit(asyncio.get_running_loop(), copy, calls)
            assert scene.hear() is None
            monkeypatch.setattr(lifeline.socket, "socketpair", no_descriptor)
            heir._give_lifeline()
            assert list(kept) == [name]
            heir.kill()
            await until(lambda: heir.state == State.DEAD, "its end")
            assert kept == {}
            process.returncode = 0

    play(script)


def no_descriptor(*_: object) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


def test_an_answer_counts_from_its_question() -> None:
    """The heartbeat judges by it: an answer may have waited here while the worker hung. An older one changes nothing."""

    async def script(scene: Scene) -> None:
        now = asyncio.get_running_loop().time()
        scene.worker.ping()
        assert (await until(scene.hear, "the ping"))[0] == requests.encode_ping(now)
        scene.worker.answered_at = now - 20
        for ping in (requests.encode_ping(now - 5), requests.encode_ping(now - 9)):
            scene.say(requests.encode_beat(requests.PONG, requests.decode_beat(ping)))
        scene.say(requests.encode_beat(requests.RENEW))
        await until(lambda: scene.renewed, "all is heard")
        assert scene.worker.answered_at == pytest.approx(now - 5, abs=0.001)

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


def test_a_draining_worker_that_lost_its_channel_and_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could tell it anything, and no successor could know it."""
    monkeypatch.setattr(limits, "CUT_S", 0.01)

    async def script(scene: Scene) -> None:
        scene.worker.drain()
        assert scene.worker.has_channel
        scene.worker.ends.supervisor.close()
        scene.sock.close()
        await until(lambda: scene.ends == [None], "given up")
        assert not scene.worker.has_channel

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
        worker_process._new_channels()
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
