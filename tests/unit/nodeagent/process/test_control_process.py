"""What is done without a control process. That one is started, heard and replaced is tried for real in tests/e2e."""

import asyncio
import errno
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.control.key_memory import hand_keys
from nodeagent.errors import FrameError
from nodeagent.process import control_process
from nodeagent.process.capture import Capture
from nodeagent.process.control_process import ControlProcess, Program, _capture_in
from nodeagent.process.privileges import User
from nodeagent.process.worker_process import WorkerCalls, WorkerProcess
from nodeagent.wire.frames import CaptureFrame, Message, NoSnapshot, Records, SupervisorStats
from nodeagent.wire.requests import CONTROL, encode_beat
from tests.support.idle_control import Start
from tests.support.loop import run, until

CONFIG = parse_config('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n', "test")

FIGURES = SupervisorStats(1, "0", 0.0, "off", "", 0, 0, [])


def open_descriptors() -> int:
    """Of this process."""
    return len([*Path("/proc/self/fd").iterdir()])


def play(script: Any, start: Start, workers: Callable[[], list[WorkerProcess]] = list) -> None:
    """Runs `script(control)`; afterwards nothing is left."""

    async def whole() -> None:
        program = Program(CONFIG, Path("x.toml"), User(64901, 64901), {})
        control = ControlProcess(asyncio.get_running_loop(), program, workers, lambda _capture: None)
        try:
            await script(control)
        finally:
            await control.stop()
            start.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control_process, "start_program", start)
        run(whole)


def test_control_may_say_one_thing_only() -> None:
    """Anything else is somebody who speaks in its place."""
    assert _capture_in(CaptureFrame(["10.0.0.1", "127.0.0.1"], [80])) == Capture(("10.0.0.1",), (80,), ("address '127.0.0.1'",))
    with pytest.raises(FrameError, match="Records, which is not control's to send"):
        _capture_in(Records([]))


def test_while_control_is_down_nothing_waits_for_it() -> None:
    """Figures are dropped; to stop what does not run takes no time."""

    async def script(control: ControlProcess) -> None:
        assert control.pid == 0
        control.tell(FIGURES)
        await control.stop()
        control.start()
        assert control.pid == 0

    play(script, Start())


def test_a_control_that_reads_nothing_for_long_is_replaced_and_the_next_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hear no denies, or the host is too slow. One that reads lives, and its hang is noticed as soon as that of the first."""
    monkeypatch.setattr(limits, "CONTROL_DEAF_TURNS", 10)
    monkeypatch.setattr(limits, "CONTROL_DEAF_TURNS_MAX", 30)
    start = Start()

    async def turns_until_it_is_cut(control: ControlProcess, reads: int = 0) -> int:
        pid, turns = control.pid, 0
        while control._channel:
            control.tell(FIGURES)
            turns += 1
            if turns <= reads:
                os.read(start._channels[-1], 100_000)
        await until(lambda: control.pid not in (0, pid), "another one runs")
        return turns - reads

    async def script(control: ControlProcess) -> None:
        control.start()
        with capture_logs() as log:
            assert [await turns_until_it_is_cut(control) for _ in range(4)] == [12, 21, 31, 31]  # in the first turn nothing is unread
            assert await turns_until_it_is_cut(control, reads=30) == 12
        assert [line.get("why") for line in log if line["event"] == "control_cut"] == ["it hangs: it has read nothing for long"] * 5

    play(script, start)


def test_a_control_that_cannot_be_started_is_tried_again() -> None:
    """No process, no memory, no descriptor: that passes. Nothing is left open by a start that failed."""
    failures = (OSError(errno.EAGAIN, "x"), subprocess.SubprocessError("x"), OSError(errno.EMFILE, "x"))
    start = Start(*failures)

    async def script(control: ControlProcess) -> None:
        before = open_descriptors()
        control.start()
        assert control.pid == 0
        assert open_descriptors() == before
        await until(lambda: control.pid, "it runs")
        assert len(start.options) == 4

    play(script, start)


def test_policy_is_awaited_of_a_control_that_has_not_spoken_nor_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word starts the time that workers get to hear the rest; no policy, the first end or a long silence end it."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        assert not control.is_awaited
        control.start()
        assert control.is_awaited
        monkeypatch.setattr(limits, "RESUME_S", 0.0)
        start.say(CaptureFrame(["10.0.0.1"], [80]))
        await until(lambda: not control.is_awaited, "the word is heard")
        control._await_until = asyncio.get_running_loop().time() + limits.RESUME_MAX_S
        assert control.is_awaited
        start.say(NoSnapshot())
        await until(lambda: not control.is_awaited, "the word is heard")
        control._await_until = asyncio.get_running_loop().time() + limits.RESUME_MAX_S
        os.kill(control.pid, signal.SIGKILL)
        await until(lambda: len(start.options) == 2 and control.pid, "another runs")
        assert not control.is_awaited
        control.exits = ()
        assert control.is_awaited
        control._await_until = asyncio.get_running_loop().time()
        assert not control.is_awaited

    play(script, start)
    assert limits.ALIVE_S < limits.RESUME_MAX_S <= limits.START_S


def test_policy_is_awaited_no_longer_than_a_worker_gets_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first control that runs and says nothing."""
    monkeypatch.setattr(limits, "RESUME_MAX_S", 0.0)

    async def script(control: ControlProcess) -> None:
        control.start()
        assert control.pid
        assert not control.is_awaited

    play(script, Start())


def test_control_is_given_what_was_checked_and_not_what_the_file_says_now() -> None:
    """Each time that it is started."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        control.start()
        assert start.config == control_process.msgspec.msgpack.encode(CONFIG)
        assert start.options[0][0] == "--config=x.toml"
        assert [option.partition("=")[0] for option in start.options[0][1:]] == ["--config-fd", "--handover-fd", "--supervisor-fd"]

    play(script, start)


def living_worker() -> tuple[WorkerProcess, socket.socket]:
    """A worker whose process is this test, and its end of the channel."""
    calls = WorkerCalls(lambda *_: None, lambda: None, lambda _: None, lambda *_: None)
    worker = WorkerProcess(asyncio.get_running_loop(), 3, 1, calls)
    worker.pid = os.getpid()
    return worker, worker.ends.supervisor.dup()


def test_a_worker_that_lost_its_channel_gets_another_and_control_the_other_end() -> None:
    """What one writes the other reads."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        worker, sock = living_worker()
        control.start()
        control.hand_over(worker)
        _, first = await until(start.passed, "the channel that it was born with")
        control.hand_over(worker)
        data, ours = await until(start.passed, "another one")
        told, theirs, _, _ = socket.recv_fds(sock, 100, 4)
        assert told == encode_beat(CONTROL)
        assert data == control_process._HANDOVER.pack(3, os.getpid())
        os.write(theirs[0], b"x")
        assert os.read(ours[0], 1) == b"x"
        for fd in (*first, *ours, *theirs):
            os.close(fd)
        worker.finish(None)
        sock.close()
        control.hand_over(worker)
        assert start.passed() is None

    play(script, start)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ETOOMANYREFS])
def test_a_channel_that_cannot_be_passed_now_is_passed_later(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And control is not replaced for it."""
    monkeypatch.setattr(limits, "RESEND_S", 0.01)
    start = Start()

    async def script(control: ControlProcess) -> None:
        worker, sock = living_worker()
        control.start()
        pid = control.pid
        failures = [OSError(code, os.strerror(code))] * 3

        def fail_first() -> socket.socket:
            if failures:
                raise failures.pop()
            return WorkerProcess.renew_control(worker)

        assert worker.for_control
        worker.for_control.close()
        worker.for_control = None
        monkeypatch.setattr(worker, "renew_control", fail_first)
        control.hand_over(worker)
        _, passed = await until(start.passed, "the channel")
        assert (failures, control.pid, worker.for_control) == ([], pid, None)
        for fd in (*passed, *socket.recv_fds(sock, 100, 4)[1]):
            os.close(fd)
        worker.finish(None)
        sock.close()

    play(script, start)


def test_a_control_that_does_not_go_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stopped hears no SIGTERM."""
    monkeypatch.setattr(limits, "CUT_S", 0.05)
    start = Start()

    async def script(control: ControlProcess) -> None:
        control.start()
        pid = control.pid
        os.kill(pid, signal.SIGSTOP)
        stat = Path(f"/proc/{pid}/stat")
        await until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
        await control.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    play(script, start)


def test_its_memory_of_keys_is_held_and_given_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one, whoever asks; it is not looked into here."""
    monkeypatch.setattr(limits, "KEYS_GAP_S", 0.01)
    start = Start()

    async def script(control: ControlProcess) -> None:
        control.start()
        assert start.keys == []
        assert start.handover
        for content in (b"first", b"second"):
            hand_keys(start.handover, content)
            await until(lambda content=content: control.keys >= 0 and os.pread(control.keys, 10, 0) == content, "held")
        os.kill(control.pid, signal.SIGKILL)
        await until(lambda: len(start.options) == 2, "another control")
        assert start.keys == [control.keys]
        assert f"--keys-fd={control.keys}" in start.options[1]
        held = control.keys
        control.forget_keys()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(held)

    play(script, start)


def test_of_many_keys_the_newest_are_taken_and_then_none_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager would hear each of them; those of a control that ends are taken even so."""
    monkeypatch.setattr(limits, "KEYS_GAP_S", 3600.0)
    start = Start()
    heard: list[bytes] = []

    async def script(control: ControlProcess) -> None:
        control._on_keys = lambda fd: heard.append(os.pread(fd, 10, 0))
        control.start()
        assert start.handover
        for number in range(3):
            hand_keys(start.handover, b"%d" % number)
        await until(lambda: heard, "the newest")
        hand_keys(start.handover, b"last")
        os.kill(control.pid, signal.SIGKILL)
        await until(lambda: len(start.options) == 2, "another control")
        assert heard == [b"2", b"last"]
        assert os.pread(control.keys, 10, 0) == b"last"

    play(script, start)


def test_our_own_want_of_descriptors_is_not_controls_fault() -> None:
    """The message comes without what was beside it: a line in the log, and control lives."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        control.start()
        pid, soft = control.pid, resource.getrlimit(resource.RLIMIT_NOFILE)
        assert start.handover
        hand_keys(start.handover, b"content")
        with capture_logs() as log:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, soft[1]))
            try:
                control._receive_keys()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, soft)
        assert [line["event"] for line in log] == ["keys_not_kept"]
        assert (control.pid, control.keys) == (pid, -1)

    play(script, start)


def test_memory_that_control_could_change_costs_it_its_life() -> None:
    """Another control, or another agent, would believe it."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        control.start()
        assert start.handover
        with open(os.memfd_create("test"), "rb") as file:  # noqa: PTH123, ASYNC230 - a descriptor is wanted
            socket.send_fds(start.handover, [control_process.KEYS], [file.fileno()])
            await until(lambda: len(start.options) == 2, "another control")
        assert control.keys == -1

    play(script, start)


def test_one_that_was_to_be_started_again_is_not_after_a_stop_and_never_beside_another() -> None:
    """A reload that fails stops and revives it, whatever had been planned before."""
    start = Start(OSError(errno.EAGAIN, "x"))

    async def script(control: ControlProcess) -> None:
        control.start()
        planned = control._restart_timer
        assert planned
        await control.stop()
        assert planned.cancelled()
        control.revive()
        pid = control.pid
        control.revive()
        assert (control.pid, len(start.options)) == (pid, 2)

    play(script, start)


@pytest.mark.parametrize(("word", "has_policy"), [(NoSnapshot(), False), (CaptureFrame([], []), True)])
def test_control_is_mute_until_its_first_word_and_while_it_reads_nothing(word: Message, *, has_policy: bool) -> None:
    """Also where it has no policy, which it tells nobody then: that is heard of one that lives. Its successor begins as it did."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        assert control.is_mute
        control.start()
        assert control.is_mute
        start.say(word)
        await until(lambda: not control.is_mute, "the word is heard")
        assert control.tells_policy is has_policy
        for _ in range(limits.CONTROL_MUTE_TURNS):  # in the first turn nothing is unread
            control.tell(FIGURES)
            assert not control.is_mute
        control.tell(FIGURES)
        assert (control.is_mute, control.tells_policy) == (True, False)
        os.read(start._channels[-1], 100_000)
        control.tell(FIGURES)
        assert not control.is_mute
        pid = control.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: control.pid not in (0, pid), "another one runs")
        assert control.is_mute

    play(script, start)
    assert limits.CONTROL_MUTE_TURNS * limits.STATS_S + limits.STATS_S < limits.HUNG_S, "it is known before workers are replaced"
