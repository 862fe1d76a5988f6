"""A real spawner, and workers without listeners."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.errors import FrameError
from nodeagent.process import spawner_process
from nodeagent.process.orders import Spawn, Spawned, SpawnerSetup
from nodeagent.process.spawner_process import SpawnerProcess
from tests.support.held import held
from tests.support.loop import run, until

CONFIG = parse_config('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n', "test")


class Scene:
    """A spawner and what it reported. Owned by one test."""

    def __init__(self) -> None:
        self.spawned: list[Spawned] = []
        self.exited: list[tuple[int, int]] = []
        self.lost = 0
        self.spawner = SpawnerProcess(
            asyncio.get_running_loop(), SpawnerSetup(CONFIG, 64902, 64902, "b"), dict(os.environ),
            self._note_spawned, lambda pid, code: self.exited.append((pid, code)), self._note_lost,
        )  # fmt: skip

    def order(self, serial: int) -> tuple[socket.socket, socket.socket]:
        """The supervisor's ends of a new worker's channels."""
        pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM)]
        assert self.spawner.order(Spawn(serial, 0), [theirs.fileno() for _, theirs in pairs])
        for _, theirs in pairs:
            theirs.close()
        return pairs[0][0], pairs[1][0]

    def _note_spawned(self, report: Spawned, pidfd: int) -> None:
        os.close(pidfd)
        self.spawned.append(report)

    def _note_lost(self) -> None:
        self.lost += 1


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie, which its adopter has not reaped yet, does not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def open_descriptors() -> int:
    """Of this process."""
    return len([*Path("/proc/self/fd").iterdir()])


def play(script: Any) -> None:
    """Runs `script(scene)` with a spawner that is stopped afterwards."""

    async def whole() -> None:
        scene = Scene()
        scene.spawner.start()
        try:
            await script(scene)
        finally:
            await scene.spawner.stop()

    run(whole)


def test_a_worker_is_forked_reported_and_reaped_with_its_code() -> None:
    """It ends by itself, cleanly, when it loses its supervisor."""

    async def script(scene: Scene) -> None:
        ends = scene.order(17)
        await until(lambda: scene.spawned, "the report")
        report = scene.spawned[0]
        assert (report.serial, report.number) == (17, 0)
        await until(lambda: Path(f"/proc/{report.pid}/comm").read_text() == "nodeagent-w0\n", "its name")
        for end in ends:
            end.close()
        await until(lambda: scene.exited == [(report.pid, 0)], "its end")

    play(script)


def test_a_spawner_that_dies_is_started_again_and_its_workers_live_on() -> None:
    """Orders may be given again; who waited is told that they were lost."""

    async def script(scene: Scene) -> None:
        ends = scene.order(1)
        await until(lambda: scene.spawned, "the first worker")
        first = scene.spawned[0].pid
        assert scene.spawner._process
        os.kill(scene.spawner._process.pid, signal.SIGKILL)
        await until(lambda: scene.lost == 1, "a new spawner")
        assert is_alive(first)
        more = scene.order(2)
        await until(lambda: len(scene.spawned) == 2, "the second worker")
        for end in (*ends, *more):
            end.close()
        await until(lambda: scene.exited == [(scene.spawned[1].pid, 0)], "its end")
        await until(lambda: not is_alive(first), "the end of the first")

    play(script)


def test_one_that_hangs_is_replaced_and_one_that_answers_is_not() -> None:
    """Whoever waits for a worker would wait for ever."""

    async def script(scene: Scene) -> None:
        ends = scene.order(1)
        await until(lambda: scene.spawned, "the first worker")
        assert scene.spawner._unanswered == {}
        scene.spawner._patience_s = 0.2
        first = scene.spawner.pid
        os.kill(first, signal.SIGSTOP)
        with capture_logs() as log:
            more = scene.order(2)
            await until(lambda: scene.lost == 1, "a new spawner")
        assert [line["event"] for line in log] == ["spawner_hung", "spawner_exited"]
        assert scene.spawner.pid not in (0, first)
        assert scene.spawner._patience_s == 0.4, "the host may be too slow"
        scene.spawner._patience_s = 60.0  # as this one may be
        again = scene.order(3)
        await until(lambda: len(scene.spawned) == 2, "another worker")
        assert scene.spawner._patience_s == limits.START_S
        for end in (*ends, *more, *again):
            end.close()

    play(script)


def test_one_that_the_kernel_holds_is_left_and_its_end_is_no_end_of_the_next() -> None:
    """By a disk that hangs, say."""

    async def script(scene: Scene) -> None:
        first = scene.order(1)
        await until(lambda: scene.spawned, "the first worker")
        old = scene.spawner._process
        assert old
        with held(old.pid), capture_logs() as log:
            scene.spawner._give_up()
            await until(lambda: scene.lost == 1, "another beside it")
            assert scene.spawner.pid not in (0, old.pid)
            assert not old.ended.is_set()
            assert [line["event"] for line in log] == ["spawner_hung", "process_left", "spawner_exited"]
        await until(old.ended.is_set, "its end")
        second = scene.order(2)
        await until(lambda: len(scene.spawned) == 2, "a worker of the other")
        assert scene.lost == 1
        for end in (*first, *second):
            end.close()

    play(script)


def test_one_that_the_kernel_held_at_a_stop_holds_up_no_revival(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that is refused after the stop."""
    monkeypatch.setattr(limits, "CUT_S", 0.1)
    monkeypatch.setattr(limits, "KILLED_S", 0.1)

    async def script(scene: Scene) -> None:
        old = scene.spawner._process
        assert old
        with held(old.pid):
            await scene.spawner.stop()
            assert scene.spawner.pid == 0
            scene.spawner.revive()
            assert scene.spawner.pid not in (0, old.pid)
            ends = scene.order(1)
            await until(lambda: scene.spawned, "a worker")
        await until(old.ended.is_set, "its end")
        assert scene.spawner.is_running
        for end in ends:
            end.close()

    play(script)


def test_what_an_order_may_wait_for_ends_somewhere() -> None:
    """Half an hour would be as good as never."""

    async def script(scene: Scene) -> None:
        for _ in range(10):
            scene.spawner._give_up()
        assert scene.spawner._patience_s == limits.SPAWN_MAX_S

    play(script)


def test_one_that_cannot_be_understood_is_replaced_also_where_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM would wait for it to go on."""

    def fail(_orders: socket.socket) -> None:
        raise FrameError("x")

    async def script(scene: Scene) -> None:
        ends = scene.order(1)
        await until(lambda: scene.spawned, "the first worker")
        os.kill(scene.spawner.pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(spawner_process, "receive_order", fail)
            scene.spawner._receive()
        await until(lambda: scene.lost == 1, "a new spawner")
        for end in ends:
            end.close()

    play(script)


def test_a_stopped_spawner_takes_no_order_and_is_not_started_again() -> None:
    """It was meant."""

    async def script(scene: Scene) -> None:
        await scene.spawner.stop()
        assert not scene.spawner.is_running
        assert not scene.spawner.order(Spawn(1, 0), [])
        assert scene.lost == 0

    play(script)


def test_a_spawner_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, no memory, no descriptor: that passes. Nobody is told of a new one before there is one."""
    start, failures = spawner_process.start_program, [subprocess.SubprocessError("x"), OSError(errno.EAGAIN, "x")]

    def fail_first(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return start(*arguments)

    async def script(scene: Scene) -> None:
        await scene.spawner.stop()
        scene.spawner._is_wanted = True
        monkeypatch.setattr(spawner_process, "start_program", fail_first)
        before = open_descriptors()
        scene.spawner.start()
        assert (scene.spawner.is_running, scene.lost) == (False, 0)
        assert open_descriptors() == before
        await until(lambda: scene.spawner.is_running, "it runs")
        assert (scene.lost, failures) == (1, [])

    play(script)


def test_one_that_was_to_be_started_again_is_not_after_a_stop_and_never_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that fails stops and revives it, whatever had been planned before."""
    start, started = spawner_process.start_program, []

    def count(*arguments: Any) -> int:
        started.append(arguments)
        return start(*arguments)

    async def script(scene: Scene) -> None:
        monkeypatch.setattr(spawner_process, "start_program", count)
        scene.spawner._end(None)
        planned = scene.spawner._restart_timer
        assert planned
        await scene.spawner.stop()
        assert planned.cancelled()
        scene.spawner.revive()
        scene.spawner.revive()
        assert len(started) == 1

    play(script)


def test_workers_never_see_the_catalogs_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are forked with the spawner's environment, and ask the catalog nothing."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "canary")

    async def scene() -> None:
        assert "CONSUL_HTTP_TOKEN" not in Scene().spawner._environ

    run(scene)
