"""Open connections under a changing policy."""

import asyncio
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.errors import Reason
from nodeagent.model.address import Address
from nodeagent.model.outcome import Direction, Path
from nodeagent.proxy.ends import TcpEnd
from nodeagent.proxy.live import Live
from nodeagent.proxy.relay import Relay
from tests.support.mesh import mesh
from tests.support.twohosts import config_of, run

CLIENT = Address("10.77.0.1", 1234)
ALLOW, DENY = mesh("shop -> web allow"), mesh(generation=2)


class Downstream(TcpEnd):
    """A client's end that needs no socket to be reset."""

    def reset(self) -> None:
        self.is_closed = True


def opened(live: Live, source: str = "shop", direction: Direction = "tunnel", path: Path = "local") -> Relay:
    """A connection that this agent enforces, unless told otherwise."""
    relay = live.open(Downstream(), direction, CLIENT, "10.77.0.2:80")
    relay.row.source, relay.row.destination, relay.row.path, relay.row.peer = source, "web", path, "host2"
    live.held.add(relay)
    return relay


def with_live(grace_s: float, work: Any, allowed: str = "shop -> web allow") -> None:
    """Runs `work(live)` in a worker's loop."""

    async def within() -> None:
        live = Live("b1", config_of("host1", "127.0.0.1"))
        live.held._grace_s = grace_s
        live.follow(mesh(allowed))
        await work(live)

    run(within)


def test_a_deny_cuts_what_it_concerns_and_nothing_else() -> None:
    """With the reason in the row; the other caller's connection lives on."""

    async def work(live: Live) -> None:
        shop, cart = opened(live), opened(live, "cart")
        live.follow(mesh("cart -> web allow", generation=2))
        await until(lambda: shop.is_over)
        assert (shop.row.reason, cart.is_over) == (Reason.POLICY_CHANGED, False)
        assert "shop -> web" in shop.row.error

    with_live(0, work)


def test_a_snapshot_that_changes_nothing_for_them_touches_nothing() -> None:
    """Allows leave everything alone."""

    async def work(live: Live) -> None:
        relay = opened(live)
        live.follow(mesh("shop -> web allow", "cart -> web allow", "cart -> * deny", generation=2))
        await asyncio.sleep(0)
        assert not relay.is_over
        assert not live.held._cutting

    with_live(0, work)


def test_many_are_cut_over_the_grace_the_first_at_once() -> None:
    """Their clients do not all come back in one moment."""

    async def work(live: Live) -> None:
        relays = [opened(live) for _ in range(100)]
        live.follow(DENY)
        await asyncio.sleep(0)
        over = [relay.is_over for relay in relays].count(True)
        assert 1 <= over <= 10
        live.held._grace_s = 0
        await until(lambda: all(relay.is_over for relay in relays))

    with_live(0.2, work)


def test_what_the_callees_agent_ends_is_left_to_it_until_its_grace_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two schedules would make one that is not even; and what the other agent leaves open ends all the same."""
    monkeypatch.setattr(limits, "BACKSTOP_S", 0.2)

    async def work(live: Live) -> None:
        theirs = [opened(live, direction="outbound", path="tunnel") for _ in range(10)]
        ours = [opened(live, direction="outbound", path="local") for _ in range(10)]
        live.follow(DENY)
        await until(lambda: all(relay.is_over for relay in ours))
        assert not any(relay.is_over for relay in theirs)
        await until(lambda: all(relay.is_over for relay in theirs))
        assert {relay.row.reason for relay in theirs} == {Reason.POLICY_CHANGED}

    with_live(0.2, work)


def test_what_is_allowed_again_meanwhile_lives_on() -> None:
    """An operator who takes a deny back within the grace saves what was not cut yet."""

    async def work(live: Live) -> None:
        relays = [opened(live) for _ in range(10)]
        live.follow(DENY)
        await until(lambda: any(relay.is_over for relay in relays))
        live.follow(ALLOW)
        await until(lambda: not live.held._cutting)
        assert 0 < [relay.is_over for relay in relays].count(False) < 10

    with_live(0.5, work)


def test_what_was_opened_between_two_denies_is_cut_too() -> None:
    """The second deny finds a cut under way, which sees to it."""

    async def work(live: Live) -> None:
        relays = [opened(live), opened(live)]
        live.follow(DENY)
        await until(lambda: relays[0].is_over or relays[1].is_over)
        live.follow(ALLOW)
        relays.append(opened(live))
        live.follow(DENY)
        await until(lambda: all(relay.is_over for relay in relays))

    with_live(0.1, work)


def test_ended_connections_are_forgotten() -> None:
    """However they ended."""

    async def work(live: Live) -> None:
        first, second = opened(live), opened(live)
        first.cut()
        second.end_closed(second.downstream, "")
        assert not live.held._relays

    with_live(0, work)


def test_a_client_that_did_not_wait_is_held_by_nothing() -> None:
    """It had ended before its way was decided."""

    async def work(live: Live) -> None:
        relay = live.open(Downstream(), "outbound", CLIENT, "10.77.0.2:80")
        relay.cut()
        live.held.add(relay)
        assert not live.held._relays

    with_live(0, work)


def test_different_kinds_that_one_change_denies_share_one_grace() -> None:
    """Five hundred hosts with one connection each do not come back in one moment either."""

    async def work(live: Live) -> None:
        relays = [opened(live, f"s{number}") for number in range(100)]
        live.follow(DENY)
        await asyncio.sleep(0)
        assert 1 <= [relay.is_over for relay in relays].count(True) <= 10
        await until(lambda: all(relay.is_over for relay in relays))

    with_live(0.2, work, "* -> web allow")


def test_one_that_does_not_end_keeps_no_other_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect is reported, and the rest is cut."""
    reported: list[Exception] = []

    async def work(live: Live) -> None:
        broken, well = opened(live), opened(live, "cart")
        live.held._report = reported.append
        monkeypatch.setattr(broken.downstream, "reset", lambda: 1 / 0)
        live.follow(DENY)
        await until(lambda: well.is_over and not live.held._cutting)
        assert [type(error) for error in reported] == [ZeroDivisionError]

    with_live(0, work, "* -> web allow")


async def until(is_so: Any) -> None:
    """Gives the loop turns until it is so; `run` has a deadline."""
    while not is_so():
        await asyncio.sleep(0.001)


def test_what_passed_is_counted_by_pair_and_told_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals since the worker began; pairs beyond the limit together."""
    monkeypatch.setattr(limits, "METRIC_PAIRS", 2)

    async def work(live: Live) -> None:
        for source in ("shop", "shop", "cart", "till", "cron"):
            opened(live, source).cut()
        assert live.held.passed() == [("shop", "web", 2), ("cart", "web", 1), ("", "", 2)]
        assert live.held.passed() == []
        opened(live)
        assert live.held.passed()[0] == ("shop", "web", 3)

    with_live(0, work)


def test_one_handful_is_cut_per_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand are no thousand timers: a quarter of the grace is a quarter of them."""
    monkeypatch.setattr(limits, "CUT_TICK_S", 900.0)

    async def work(live: Live) -> None:
        relays = [opened(live) for _ in range(100)]
        live.follow(DENY)
        await until(lambda: any(relay.is_over for relay in relays))
        assert [relay.is_over for relay in relays].count(True) == 25
        live.follow(ALLOW)

    with_live(3600, work)
