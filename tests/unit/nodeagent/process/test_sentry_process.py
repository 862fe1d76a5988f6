"""A real sentry, and its supervisor's side. Whom it ends is in test_sentry, that it does in tests/e2e."""

import asyncio
import errno
import math
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import sentry_process
from nodeagent.process.handover import open_descriptors
from nodeagent.process.orphans import Kin
from nodeagent.process.privileges import SENTRY
from nodeagent.process.sentry import BEAT
from nodeagent.process.sentry_process import SentryProcess
from tests.support.loop import run, until


def play(script: Callable[[SentryProcess], Awaitable[None]]) -> None:
    """Runs `script(sentry)` with one that is stopped afterwards."""

    async def whole() -> None:
        sentry = SentryProcess(asyncio.get_running_loop(), dict(os.environ))
        sentry.start()
        try:
            await script(sentry)
        finally:
            await sentry.stop()
        assert sentry.pid == 0

    run(whole)


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process; nothing: it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def watches(pid: int) -> bool:
    """Whether it has come so far that it has given up what it does not need."""
    return int(status_of(pid)["CapEff"], 16) == sum(1 << bit for bit in SENTRY)


def test_it_keeps_one_capability_and_no_thread() -> None:
    """And a name."""

    async def script(sentry: SentryProcess) -> None:
        await until(lambda: watches(sentry.pid), "it watches")
        status = status_of(sentry.pid)
        assert {status[f"Cap{name}"] for name in ("Eff", "Prm", "Bnd")} == {f"{1 << 12:016x}"}
        assert (status["Name"], status["Threads"], status["NoNewPrivs"]) == ("nodeagent-sentr", "1", "1")

    play(script)


def test_one_that_dies_is_started_again_and_told_what_was_told_last() -> None:
    """Beats meanwhile are no error."""

    async def script(sentry: SentryProcess) -> None:
        first = sentry.pid
        with capture_logs() as log:
            os.kill(first, signal.SIGKILL)
            for _ in range(3):
                sentry.beat(limits.ALIVE_S)
            await until(lambda: sentry.pid not in (0, first), "another")
        assert [(line["event"], line["code"]) for line in log] == [("sentry_exited", -9)]
        await until(lambda: watches(sentry.pid), "it watches")

    play(script)


def test_one_that_hangs_is_replaced() -> None:
    """Its channel is full: the beats of some twenty seconds. Nobody waits for it."""

    async def script(sentry: SentryProcess) -> None:
        first = sentry.pid
        await until(lambda: watches(first), "it watches")
        os.kill(first, signal.SIGSTOP)
        for _ in range(limits.SENTRY_QUEUE_BYTES // BEAT.size):
            sentry.beat(limits.ALIVE_S)
        await until(lambda: sentry.pid not in (0, first), "another")

    play(script)


def test_it_ends_by_itself_when_its_supervisor_takes_leave() -> None:
    """It is not started again, and that is no trouble."""

    async def script(sentry: SentryProcess) -> None:
        pid = sentry.pid
        sentry.beat(None)
        sentry.leave()
        await until(lambda: sentry.pid == 0, "its end")
        assert sentry._exits == ()
        assert status_of(pid) == {}
        sentry.start()
        assert (sentry.pid, sentry.trouble) == (0, "")

    play(script)


def test_it_goes_on_alone_when_its_supervisor_goes_without_a_word() -> None:
    """As in a crash or reload; nor is it started again. `stop` ends it still."""

    async def script(sentry: SentryProcess) -> None:
        pid = sentry.pid
        await until(lambda: sentry.is_watching, "it watches")
        sentry.beat(limits.ALIVE_S)
        sentry.release()
        await asyncio.sleep(2 * limits.SENTRY_LOOK_S)
        assert (sentry.pid, sentry.is_watching, sentry.trouble) == (pid, False, "")

    play(script)


def test_it_is_known_whether_it_watches() -> None:
    """The first is given its time; without one that had been there before, something is wrong."""

    async def script(sentry: SentryProcess) -> None:
        assert (sentry.is_watching, sentry.trouble) == (False, "")
        await until(lambda: sentry.is_watching, "it says so")
        os.kill(sentry.pid, signal.SIGKILL)
        await until(lambda: sentry.trouble, "it is missed")
        assert (sentry.trouble, sentry.is_watching) == ("it ended with -9", False)
        await until(lambda: sentry.is_watching and not sentry.trouble, "another watches")

    play(script)


def test_those_that_went_on_alone_are_relieved_once_it_watches(tmp_path: Path) -> None:
    """Not before: they watch for callers whom nobody else would see."""
    kin = Kin(tmp_path, 64901, 64902)

    async def script(sentry: SentryProcess) -> None:
        left = SentryProcess(asyncio.get_running_loop(), dict(os.environ))
        left.start()
        (tmp_path / "cgroup.procs").write_text(f"{left.pid}\n{sentry.pid}\n{os.getpid()}")
        sentry.relieve(kin)
        await until(lambda: left.is_watching and sentry.is_watching, "both watch")
        left.beat(1000)  # else it has nothing to do where nobody listens, and ends by itself
        left.release()
        with capture_logs() as log:
            sentry.relieve(kin)
            sentry.relieve(kin)
            await until(lambda: not left.pid, "its end")
        assert [line["event"] for line in log] == ["sentries_relieved"]
        assert status_of(sentry.pid)["Name"] == "nodeagent-sentr"

    play(script)


def test_those_that_went_on_alone_end_with_the_agent_though_ours_never_watched(tmp_path: Path) -> None:
    """A stop in the middle of a reload: the next program's own sentry has only just been started."""
    kin = Kin(tmp_path, 64901, 64902)

    async def script(sentry: SentryProcess) -> None:
        left = SentryProcess(asyncio.get_running_loop(), dict(os.environ))
        left.start()
        await until(lambda: left.is_watching, "it watches")
        left.beat(1000)  # else it has nothing to do where nobody listens, and ends by itself
        left.release()
        (tmp_path / "cgroup.procs").write_text(f"{left.pid}\n{os.getpid()}")
        with capture_logs() as log:
            await sentry.stop()
            sentry.dismiss(kin)
            await until(lambda: not left.pid, "its end")
        assert "sentries_dismissed" in [line["event"] for line in log]

    play(script)


def test_one_that_cannot_be_started_is_no_reason_to_fail_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, no memory, no descriptor: that passes."""
    start, failures = sentry_process.start_program, [subprocess.SubprocessError("x"), OSError(errno.EAGAIN, "x")]

    def fail_first(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return start(*arguments)

    async def whole() -> None:
        monkeypatch.setattr(sentry_process, "start_program", fail_first)
        sentry = SentryProcess(asyncio.get_running_loop(), dict(os.environ))
        sentry.beat(limits.ALIVE_S)
        before = open_descriptors()
        sentry.start()
        assert (sentry.pid, open_descriptors(), sentry.trouble) == (0, before, "it cannot be started: [Errno 11] x")
        await until(lambda: sentry.pid, "it runs")
        await sentry.stop()

    run(whole)


@pytest.mark.parametrize(("lives_s", "is_over"), [(limits.ALIVE_S, False), (0.0, True), (-1.0, True), (None, False)])
def test_a_beat_that_is_over_is_none_that_is_let_fall_on_purpose(lives_s: float | None, *, is_over: bool) -> None:
    """Those who serve may have been silent for just as long as the switch holds: then it is to look, and at once."""

    async def scene() -> None:
        sentry = SentryProcess(asyncio.get_running_loop(), {})
        sentry.beat(lives_s)
        assert (sentry._word.until <= time.monotonic()) is is_over
        assert math.isinf(sentry._word.until) is (lives_s is None)
        sentry.is_holding = True
        sentry.beat(lives_s)
        assert sentry._word.is_holding is (lives_s is not None)

    run(scene)


def test_the_sentry_never_sees_the_catalogs_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks nobody."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "canary")

    async def scene() -> None:
        assert "CONSUL_HTTP_TOKEN" not in SentryProcess(asyncio.get_running_loop(), dict(os.environ))._environ

    run(scene)
