"""A clock that was set is noticed, one that is slewed is not; how far it is from the catalog's shows by the dates of answers."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.clock import CatalogClock, clock_problem, watch_clock
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


DATE, AT = "Thu, 26 Nov 2026 17:00:00 GMT", datetime(2026, 11, 26, 17, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("off_s", [0.0, 25 * HOUR, -25 * HOUR, -TEN_YEARS])
def test_a_date_tells_how_far_the_clock_is_off_until_it_is_set_right(off_s: float) -> None:
    """Within the second that the header does not tell; no other answer is needed to see that it is right again."""
    real, off = [AT + 0.3], [off_s]
    clock = CatalogClock(lambda: real[0] + off[0], lambda: real[0] - AT + 7)
    clock.note(DATE)
    assert clock.ahead_s == pytest.approx(off_s, abs=0.5)
    real[0] += 30.0
    assert clock.ahead_s == pytest.approx(off_s, abs=0.5)
    off[0] = 0.0
    assert clock.ahead_s == pytest.approx(0.0, abs=0.5)


def test_without_a_date_nothing_is_known_and_garbage_changes_nothing() -> None:
    """A proxy may leave it out, or write what it likes."""
    clock = CatalogClock(lambda: AT, lambda: 0.0)
    for garbage in ("", "yesterday", "Thu, 99 Nov 2026 17:00:00 GMT"):
        clock.note(garbage)
        assert math.isnan(clock.ahead_s)
    clock.note(DATE)
    clock.note("yesterday")
    assert clock.ahead_s == pytest.approx(0.0, abs=0.5)


def svid(begins: datetime) -> Svid:
    """One of an hour, of a CA by whose clock it is `begins`, and which dates it back as CAs do."""
    key, csr = new_key_and_csr(service_id("td", "dc1", "shop"))
    return Svid.from_pem(LocalCa.create("td", begins).sign(csr, service_id("td", "dc1", "shop"), timedelta(hours=1), begins), key)


SKEW = limits.CLOCK_SKEW_S


@pytest.mark.parametrize(
    ("ahead_s", "begins_in_s", "told"),
    [
        (0.0, 0.0, ""),
        (math.nan, 0.0, ""),
        (-SKEW, 0.0, ""),
        (SKEW, 0.0, ""),
        (-SKEW - 1, 0.0, "is 61 s behind the catalog's: by it fresh certificates are not valid yet"),
        (SKEW + 1, 0.0, "is 61 s ahead of the catalog's: by it certificates end too early"),
        (-25 * HOUR, 25 * HOUR, "is 25.0 h behind the catalog's"),
        (math.nan, 25 * HOUR, "is behind the CA's: a certificate that it holds is not valid before 2026-11-27 17:59:00 UTC"),
        (0.0, 25 * HOUR, "is behind the CA's"),
    ],
)
def test_a_clock_that_certificates_do_not_bear_is_a_problem(ahead_s: float, begins_in_s: float, told: str) -> None:
    """By the catalog's, or, where that is not known or is this host's own, by what the CA signed."""
    now = datetime.fromtimestamp(AT, UTC)
    held = [svid(now), svid(now + timedelta(seconds=begins_in_s))]
    said = clock_problem(ahead_s, held, AT)
    assert told in said
    assert bool(said) is bool(told)
