"""A clock that was set is noticed, one that is slewed is not."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from nodeagent import limits
from nodeagent.control.clock import watch_clock
from tests.support.loop import run, until

HOUR, TEN_YEARS = 3600.0, 10 * 365 * 86_400.0


async def watched(work: Callable[[list[float], list[float]], object]) -> list[float]:
    """The jumps that were told while `work` ran; it sets the clock by its first argument, the list of offsets."""
    offset, jumps = [1_700_000_000.0], []
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(watch_clock(lambda: loop.time() + offset[0], jumps.append))
    await asyncio.sleep(0)
    try:
        await work(offset, jumps)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return jumps


@pytest.mark.parametrize("jump", [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, limits.CLOCK_JUMP_S + 0.1])
def test_a_jump_is_told_once_with_its_size(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLOCK_LOOK_S", 0.01)

    async def work(offset: list[float], jumps: list[float]) -> None:
        offset[0] += jump
        await until(lambda: jumps, "the jump")
        for _ in range(10):
            await asyncio.sleep(0.01)

    async def scene() -> None:
        (told,) = await watched(work)
        assert told == pytest.approx(jump, abs=0.1)

    run(scene)


def test_a_slewed_clock_is_no_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far it comes in the end."""
    monkeypatch.setattr(limits, "CLOCK_LOOK_S", 0.005)

    async def work(offset: list[float], _jumps: list[float]) -> None:
        for _ in range(20):
            offset[0] += limits.CLOCK_JUMP_S / 4
            await asyncio.sleep(0.01)

    async def scene() -> None:
        assert await watched(work) == []

    run(scene)
