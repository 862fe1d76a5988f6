"""A real sentry, and its supervisor's side. Whom it ends is in test_sentry, that it does in tests/e2e."""

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import sentry_process
from nodeagent.process.handover import open_descriptors
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


def test_it_ends_by_itself_when_its_supervisor_goes() -> None:
    """As over a reload, where the next program starts its own; it is not started again."""

    async def script(sentry: SentryProcess) -> None:
        pid = sentry.pid
        sentry.beat(0)
        sentry.leave()
        await until(lambda: sentry.pid == 0, "its end")
        assert sentry._exits == ()
        assert status_of(pid) == {}
        sentry.start()
        assert sentry.pid == 0

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
        assert (sentry.pid, open_descriptors()) == (0, before)
        await until(lambda: sentry.pid, "it runs")
        await sentry.stop()

    run(whole)
