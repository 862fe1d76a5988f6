"""Questions of a worker for ports at which it knows nobody."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nodeagent import limits
from nodeagent.proxy.first_use import FirstUse
from nodeagent.wire.frames import WantHost
from tests.support.loop import run, until

Script = Callable[[FirstUse, list[WantHost]], Awaitable[None]]


def play(script: Script) -> None:
    """The questions that reach control are in the list."""

    async def scene() -> None:
        first_use, asked = FirstUse(), list[WantHost]()
        first_use.send = lambda question: [asked.append(question), True][1]
        await script(first_use, asked)
        assert first_use._waiting == {}

    run(scene)


def test_all_who_wait_for_a_port_are_one_question() -> None:
    """One that leaves takes nobody with it."""

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        calls = [asyncio.create_task(first_use.ask("host2", port)) for port in (80, 80, 80, 81)]
        await until(lambda: len(asked) == 2, "the questions")
        calls[0].cancel()
        first_use.note("host2", 80)
        await asyncio.gather(*calls[1:3])
        assert not calls[3].done()
        first_use.note("host2", 81)
        first_use.note("host2", 82)
        await calls[3]
        assert asked == [WantHost("host2", 80), WantHost("host2", 81)]

    play(script)


def test_a_port_is_not_asked_for_again_at_once() -> None:
    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        for _ in range(3):
            call = asyncio.create_task(first_use.ask("host2", 80))
            await asyncio.sleep(0)
            first_use.note("host2", 80)
            await call
        assert len(asked) == 1
        first_use._again_at["host2", 80] = asyncio.get_running_loop().time()
        call = asyncio.create_task(first_use.ask("host2", 80))
        await until(lambda: len(asked) == 2, "the next question")
        first_use.note("host2", 80)
        await call

    play(script)


def test_control_gets_a_while_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then, and where it is away, the call goes on by what is known."""
    monkeypatch.setattr(limits, "FIRST_USE_LOST_S", 0.01)

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        await first_use.ask("host2", 80)
        await first_use.ask("host2", 81)
        assert asked == [WantHost("host2", 80)], "nobody else waits for who has not answered"
        monkeypatch.setattr(limits, "FIRST_USE_REST_S", 0.0)
        first_use._rests_until = 0.0
        await first_use.ask("host2", 81)
        assert asked == [WantHost("host2", 80), WantHost("host2", 81)]
        first_use.send = lambda _: False
        await first_use.ask("host2", 82)
        assert FirstUse().send(WantHost("host2", 80)) is False

    play(script)


def test_who_has_waited_in_vain_for_a_port_waits_again_for_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes into force must not take the first use of all else away."""
    monkeypatch.setattr(limits, "FIRST_USE_S", 0.0)
    monkeypatch.setattr(limits, "FIRST_USE_AGAIN_S", 0.0)

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        for port in (80, 80, 81):
            call = asyncio.create_task(first_use.ask("host2", port))
            await asyncio.sleep(0)
            first_use.note("host2", port)
            await call
        assert asked == [WantHost("host2", 80), WantHost("host2", 81)]
        assert limits.FIRST_USE_REST_S - 1 < first_use._again_at["host2", 80] - asyncio.get_running_loop().time()

    play(script)


def test_a_control_that_goes_is_not_waited_for() -> None:
    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        calls = [asyncio.create_task(first_use.ask("host2", port)) for port in (80, 81)]
        await until(lambda: len(asked) == 2, "the questions")
        first_use.give_up()
        await asyncio.gather(*calls)

    play(script)


def test_of_one_host_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that peers make up must not keep this host's own calls from asking."""
    monkeypatch.setattr(limits, "FIRST_USE_OF_HOST", 2)

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        calls = [asyncio.create_task(first_use.ask("host1", name)) for name in ("a", "b", "c")]
        await calls[2]
        call = asyncio.create_task(first_use.ask("host2", 80))
        await until(lambda: len(asked) == 3, "another host's")
        assert asked == [WantHost("host1", "a"), WantHost("host1", "b"), WantHost("host2", 80)]
        first_use.give_up()
        await asyncio.gather(call, *calls)

    play(script)


def test_only_so_many_calls_wait_for_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves makes room for another."""
    monkeypatch.setattr(limits, "FIRST_USE_CALLS", 2)

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        calls = [asyncio.create_task(first_use.ask("host2", 80)) for _ in range(3)]
        await calls[2]
        calls[0].cancel()
        calls.append(asyncio.create_task(first_use.ask("host2", 80)))
        await asyncio.wait((calls[0],))
        await asyncio.sleep(0)
        assert [call.done() for call in calls] == [True, False, True, False]
        first_use.note("host2", 80)
        await asyncio.gather(*calls[1:])
        assert asked == [WantHost("host2", 80)]

    play(script)


def test_who_scans_ports_asks_for_so_many_at_once_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_USE_WAITING", 3)
    monkeypatch.setattr(limits, "FIRST_USE_KEPT", 2)

    async def script(first_use: FirstUse, asked: list[WantHost]) -> None:
        calls = [asyncio.create_task(first_use.ask("host2", port)) for port in range(1, 6)]
        await asyncio.wait(calls[3:])
        assert [question.wanted for question in asked] == [1, 2, 3]
        first_use.give_up()
        await asyncio.gather(*calls)
        assert list(first_use._again_at) == [("host2", 2), ("host2", 3)]

    play(script)
