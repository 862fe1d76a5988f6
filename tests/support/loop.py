"""A test's coroutine, run with a deadline on the loop that control uses; and facts awaited on it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop


def run(scene: Callable[[], Awaitable[Any]], deadline_s: float = 60) -> Any:
    """What the scene returns."""

    async def within() -> Any:
        async with asyncio.timeout(deadline_s):
            result = await scene()
        for _ in range(3):
            await asyncio.sleep(0.005)  # transports that were closed end in the loop's next turns
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(within())


async def until(fact: Callable[[], Any], what: str, deadline_s: float = 20) -> Any:
    """The first true value of `fact()`."""
    end = asyncio.get_running_loop().time() + deadline_s
    while not (value := fact()):
        assert asyncio.get_running_loop().time() < end, f"{what}: not within {deadline_s} s; last seen: {value!r}"
        await asyncio.sleep(0.01)
    return value


def beside(job: Callable[[], Coroutine[Any, Any, Any]], script: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What `script()` gives while the job runs, which is ended then; on the loop that the embedded catalog uses."""

    async def scene() -> Any:
        task = asyncio.create_task(job())
        try:
            async with asyncio.timeout(20):
                return await script()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return asyncio.run(scene())
