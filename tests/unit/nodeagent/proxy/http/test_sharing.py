"""What a worker shares about requests: told to control, heard from it, and waited for."""

import asyncio
import random
from dataclasses import replace

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.dispatch import Dispatch
from nodeagent.decide.outlier import Ejection
from nodeagent.errors import BreakerOpen
from nodeagent.model.policy.defaults import CallLimits, Upstream, UpstreamConfig
from nodeagent.proxy.http.sharing import Sharing
from nodeagent.wire.frames import EjectionRow, PartRow, Shared
from tests.support.loop import run, until
from tests.support.routed_mesh import routed_mesh
from tests.support.routes import instance

LEG = Leg(route="default", target=Target("web"))
COURSE = ("shop", Target("web"))
WAY = ("shop", "web", "", "requests")


class Far:
    """Control, played by the test; shop may have eight requests to web open."""

    def __init__(self, *, joins: bool = True) -> None:
        made = routed_mesh(instances=tuple(instance(number) for number in range(3)))
        said = UpstreamConfig(defaults=Upstream(limits=CallLimits(max_concurrent_requests=8)))
        shop = msgspec.structs.replace(made.services["shop"], upstreams=said)
        self.snapshot = replace(made, services={**made.services, "shop": shop})
        self.dispatch = Dispatch(random.Random(3).random, workers=4)
        self.sharing = Sharing(self.dispatch, lambda: self.snapshot)
        self.heard: list[Shared] = []
        self.takes = True
        if joins:
            self.sharing.join(self._send)

    def _send(self, said: Shared) -> bool:
        if self.takes:
            self.heard.append(said)
        return self.takes

    def take(self):
        """One request; what it needs is told."""
        try:
            return self.dispatch.take(self.snapshot, "shop", LEG, 0.0)
        finally:
            self.sharing.note()

    def lease(self, share: int, serial: int, *, limit: int = 8) -> None:
        self.sharing.hear(Shared([], [PartRow(*WAY, limit, share, 0, serial)]))

    async def asked(self) -> PartRow:
        """The next word about requests."""
        await until(lambda: any(said.parts for said in self.heard), "a row")
        rows = [row for said in self.heard for row in said.parts if row.kind == "requests"]
        self.heard.clear()
        return rows[-1]


def test_a_part_is_asked_for_and_waited_for() -> None:
    """And what is told is what is held and wanted, with the serial of what was heard."""

    async def work() -> None:
        far = Far()
        assert far.heard == [Shared()], "first that it takes part"
        with pytest.raises(BreakerOpen):
            far.take()
        assert far.sharing.may_wait(COURSE)
        turn = asyncio.create_task(far.sharing.turn(COURSE))
        assert await far.asked() == PartRow(*WAY, 8, 0, 2, 0)
        far.lease(2, 1)
        await turn
        far.take()
        far.take()
        assert await far.asked() == PartRow(*WAY, 8, 2, 3, 1), "more is asked for before it is needed"
        far.lease(1, 2)
        assert await far.asked() == PartRow(*WAY, 8, 2, 3, 2), "what is in use is kept"

    run(work)


def test_one_that_ends_lets_one_go_on() -> None:
    async def work() -> None:
        far = Far()
        far.lease(1, 1)
        pick = far.take()
        turns = [asyncio.create_task(far.sharing.turn(COURSE)) for _ in range(2)]
        await asyncio.sleep(0)
        far.dispatch.give_back(pick, 0.0, is_failure=False)
        far.sharing.freed(COURSE)
        await asyncio.sleep(0)
        assert [True, False] == [turn.done() for turn in turns]
        turns[1].cancel()

    run(work)


def test_what_was_waited_for_in_vain_is_not_waited_for_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control was there, and had nothing. Nor does anybody wait who could get nothing."""
    monkeypatch.setattr(limits, "LEASE_WAIT_S", 0.01)
    monkeypatch.setattr(limits, "LEASE_AGAIN_S", 0.1)

    async def work() -> None:
        far = Far()
        far.lease(1, 1)
        await far.sharing.turn(COURSE)
        assert not far.sharing.may_wait(COURSE)
        await asyncio.sleep(0.11)
        assert far.sharing.may_wait(COURSE)
        await far.sharing.turn(COURSE)
        far.lease(0, 2)
        assert far.sharing.may_wait(COURSE), "it has none at all"
        far.lease(8, 3)
        assert not far.sharing.may_wait(COURSE), "all of it is here"
        assert not Far(joins=False).sharing.may_wait(COURSE)

    run(work)


def test_of_a_control_that_says_nothing_a_worker_is_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while: with its static share."""
    monkeypatch.setattr(limits, "LEASE_WAIT_S", 0.02)
    monkeypatch.setattr(limits, "LEASE_MUTE_S", 0.0)

    async def work() -> None:
        far = Far()
        with pytest.raises(BreakerOpen):
            far.take()
        await far.sharing.turn(COURSE)
        far.take()
        far.take()
        with pytest.raises(BreakerOpen):
            far.take()

    run(work)


def test_a_control_that_goes_leaves_each_its_static_share() -> None:
    """What comes back is told all that is known."""

    async def work() -> None:
        far = Far()
        far.lease(7, 1)
        far.sharing.leave()
        assert far.dispatch.gauge(far.snapshot, COURSE).share == 2
        far.heard.clear()
        far.sharing.join(far._send)
        assert await far.asked() == PartRow(*WAY, 8, 2, 0, 0)

    run(work)


def test_a_part_of_another_bound_is_not_taken() -> None:
    """The entry has changed meanwhile: control is told what it is."""

    async def work() -> None:
        far = Far()
        far.lease(5, 1, limit=16)
        assert await far.asked() == PartRow(*WAY, 8, 0, 0, 1)
        far.sharing.hear(Shared([], [PartRow("shop", "web", "", "of a later version", 8, 5)]))

    run(work)


def test_whatever_is_no_gain_is_answered() -> None:
    """Where the bound has changed, control still believes that this worker has its part of the one before."""

    async def work() -> None:
        far = Far()
        far.lease(0, 1)
        assert await far.asked() == PartRow(*WAY, 8, 0, 0, 1)
        far.lease(3, 2)
        await asyncio.sleep(0.05)
        assert not far.heard

    run(work)


def test_what_control_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next word; and not all in one."""
    monkeypatch.setattr(limits, "SHARED_ROWS", 2)
    monkeypatch.setattr(limits, "SHARE_S", 0.001)

    async def work() -> None:
        far = Far()
        far.takes = False
        far.dispatch.changed |= {COURSE, ("cart", Target("web"))}
        far.sharing.note()
        await asyncio.sleep(0.01)
        far.takes = True
        await until(lambda: len(far.heard) >= 3, "the hello and two words")
        assert {"shop", "cart"} == {said.parts[0].source for said in far.heard if said.parts}
        assert all(len(said.parts) <= 2 for said in far.heard)

    run(work)


def test_an_ejection_is_told_and_heard() -> None:
    """Clocks that never go back are a host's own: what is told is how long it lasts."""

    async def work() -> None:
        far, other = Far(), Far()
        far.sharing.ejected(COURSE, Ejection("h1/i1", asyncio.get_running_loop().time() + 30, 1))
        said = far.heard[-1].ejections[0]
        assert (said.source, said.service, said.subset, said.instance) == ("shop", "web", "", "h1/i1")
        assert 29 < said.left_s <= 30
        now = asyncio.get_running_loop().time()
        other.sharing.hear(Shared([EjectionRow("shop", "web", "", "h1/i1", 30.0, 1)]))
        picks = {other.dispatch.take(other.snapshot, "cart", LEG, now).name for _ in range(50)}
        assert "h1/i1" in picks, "as another caller it has its own word"
        other.lease(8, 1)
        for _ in range(8):
            pick = other.dispatch.take(other.snapshot, "shop", LEG, now)
            assert pick.name != "h1/i1"
        Far(joins=False).sharing.ejected(COURSE, Ejection("h1/i1", 1.0, 1))

    run(work)
