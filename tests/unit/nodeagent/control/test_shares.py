"""What control makes of what workers share about requests."""

import asyncio
import contextlib
import random

import pytest

from nodeagent import limits
from nodeagent.control.shares import Shares
from nodeagent.decide.breaker import Gauge
from nodeagent.decide.dispatch import name_of
from nodeagent.decide.outlier import Ejection
from nodeagent.wire.frames import EjectionRow, PartRow, Shared
from tests.support.loop import run, until
from tests.support.shares_scene import BOUND, COURSE, Scene, snapshot

WAY = ("shop", "web", "", "requests")
GONE = EjectionRow("shop", "web", "", "h1/web", 30.0, 1)


def asks(shares: Shares, worker: int, held: int, wanted: int, serial: int = 0, *, limit: int = 8) -> dict[int, tuple[int, int]]:
    """What each is told after a worker's word: its share, and the serial of that."""
    said = shares.hear(worker, Shared([], [PartRow(*WAY, limit, held, wanted, serial)]), (), 0.0)
    return {to: (shared.parts[0].held, shared.parts[0].serial) for to, shared in said.items() if shared.parts}


def test_an_ejection_is_told_to_all_others() -> None:
    """And remembered for who asks, as long as it holds."""
    shares = Shares()
    assert {2: Shared([GONE]), 3: Shared([GONE])} == shares.hear(1, Shared([GONE]), (1, 2, 3), 100.0)
    assert {("web", "", "h1/web"): 20.0} == shares.ejected("shop", 110.0)
    assert not shares.ejected("cart", 110.0)
    assert not shares.ejected("shop", 130.0)


def test_one_worker_may_have_all_that_nobody_else_uses() -> None:
    """At once."""
    assert {1: (8, 1)} == asks(Shares(), 1, 0, 8)


def test_what_is_borrowed_comes_back_before_it_is_given_on() -> None:
    """And no worker is told of a share that another may still use."""
    shares = Shares()
    asks(shares, 1, 0, 2)
    assert {1: (4, 2)} == asks(shares, 2, 0, 2)
    assert {2: (2, 1)} == asks(shares, 1, 6, 6, 2), "what it has in use it keeps"


def test_a_word_that_crosses_another_counts_as_nothing_read() -> None:
    """The worker may yet believe what it was told."""
    shares = Shares()
    asks(shares, 1, 0, 8)
    assert {1: (6, 2)} == asks(shares, 2, 0, 2)
    assert not asks(shares, 1, 0, 8, 0), "it has not read that it may have 8, nor that it may have 6"
    assert {2: (2, 1)} == asks(shares, 1, 6, 6, 2)


def test_what_a_worker_that_ended_had_is_for_the_others() -> None:
    """Without being asked again."""
    shares = Shares()
    asks(shares, 1, 0, 8)
    asks(shares, 1, 8, 8, 1)
    asks(shares, 2, 0, 4)
    told = shares.forget(1)
    assert {2: 8} == {to: shared.parts[0].held for to, shared in told.items()}
    assert not shares.forget(2)
    assert not shares.used("shop")


def test_what_is_leased_can_be_asked_for() -> None:
    """Of all workers together."""
    shares = Shares()
    asks(shares, 1, 0, 3)
    assert [PartRow(*WAY, 8, 8, 3)] == shares.used("shop")
    assert not shares.used("cart")


def test_nonsense_leases_nothing() -> None:
    """A worker's word is not control's."""
    assert not asks(Shares(), 1, -5, 4, limit=-3)


def test_who_asks_is_answered_though_there_is_nothing_for_it() -> None:
    """It would take silence for a control that is stuck."""
    shares = Shares()
    asks(shares, 1, 0, 8)
    said = Shared([], [PartRow(*WAY, 8, 8, 20, 1)])
    assert {1: Shared()} == shares.hear(1, said, (1, 2), 0.0)


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever workers say."""
    monkeypatch.setattr(limits, "SHARED_BOUNDS", 2)
    monkeypatch.setattr(limits, "SHARED_EJECTIONS", 4)
    monkeypatch.setattr(limits, "SHARED_ROWS", 3)
    shares = Shares()
    parts = [PartRow(f"s{number}", "web", "", "requests", 8, 0, 1) for number in range(9)]
    assert len(shares.hear(1, Shared([], parts), (1,), 0.0)[1].parts) == 3, "each is leased"
    assert ["s1", "s2"] == [bound.source for bound in shares._books], "and one is forgotten"
    idle = PartRow("s2", "web", "", "requests", 8, 8, 0, 1)
    shares.hear(1, Shared([], [idle, PartRow("s3", "web", "", "requests", 8, 0, 1)]), (1,), 0.0)
    assert ["s1", "s3"] == [bound.source for bound in shares._books], "rather one of which nobody wants anything"
    for start in range(9):
        rows = [EjectionRow("shop", "web", "", f"h/{start}-{number}", 30.0 + start, 1) for number in range(9)]
        assert len(shares.hear(1, Shared(rows), (1, 2), 0.0)[2].ejections) == 3
    assert 2 <= len(shares.ejected("shop", 1.0)) <= 4


class Town:
    """Workers whose words to control, and control's to them, wait on the way."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.chance, self.shares = random.Random(limit), Shares()
        self.gauges = {number: Gauge(0, limit) for number in range(4)}
        self.mail: dict[int, list[PartRow]] = {number: [] for number in self.gauges}
        self.said: dict[int, list[PartRow]] = {number: [] for number in self.gauges}

    def step(self, number: int, *, may_take: bool) -> None:
        self._work(number, may_take=may_take)
        if self.mail[number] and self.chance.random() < 0.5:
            self._read(number)
        if self.said[number] and self.chance.random() < 0.5:
            self._post(self.shares.hear(number, Shared([], [self.said[number].pop(0)]), (), 0.0))

    def replace(self) -> None:
        """One dies, and another takes its place."""
        old, new = self.chance.choice(list(self.gauges)), max(self.gauges) + 1
        for book in (self.gauges, self.mail, self.said):
            del book[old]
        self.gauges[new], self.mail[new], self.said[new] = Gauge(0, self.limit), [], []
        self._post(self.shares.forget(old))

    def _work(self, number: int, *, may_take: bool) -> None:
        gauge = self.gauges[number]
        if may_take and self.chance.random() < 0.6:
            gauge.try_take()
            if gauge.is_short:
                self._say(number)
        elif gauge.used and gauge.give_back():
            self._say(number)

    def _read(self, number: int) -> None:
        gauge, row = self.gauges[number], self.mail[number].pop(0)
        before, gauge.serial = gauge.share, row.serial
        gauge.take_share(row.held)
        if gauge.share < before:
            self._say(number)

    def _say(self, number: int) -> None:
        gauge = self.gauges[number]
        self.said[number].append(PartRow(*WAY, self.limit, *gauge.tell(), gauge.serial))

    def _post(self, told: dict[int, Shared]) -> None:
        for to in told.keys() & self.mail.keys():
            self.mail[to].extend(told[to].parts)


@pytest.mark.parametrize("limit", [1, 3, 8, 64])
def test_four_workers_never_have_more_than_the_bound_however_late_each_hears(limit: int) -> None:
    """Words wait on both ways, workers come and go, and in the end one has it all."""
    town = Town(limit)
    for turn in range(6_000):
        if turn < 4_000 and town.chance.random() < 0.002:
            town.replace()
        number = town.chance.choice(list(town.gauges))
        town.step(number, may_take=turn < 4_000 or number == max(town.gauges))
        assert sum(each.used for each in town.gauges.values()) <= limit
    assert town.gauges[max(town.gauges)].share == limit


# --- with workers on real channels ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(limits, "LEASE_WAIT_S", 1.0)


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as playing:
            await work(playing)

    run(within)


def test_each_worker_in_turn_has_all_of_it() -> None:
    """As soon as the one before needs it no more."""

    async def work(playing: Scene) -> None:
        for worker in playing.workers:
            assert await worker.take_all(BOUND) == BOUND
            assert not worker.take()
            worker.end(BOUND)

    scene(work)


def test_all_at_once_have_no_more_than_it() -> None:
    """And what is there is used."""

    async def work(playing: Scene) -> None:
        for _ in range(3):
            taken = await asyncio.gather(*(worker.take_all(BOUND) for worker in playing.workers))
            assert sum(taken) == playing.used == BOUND
            for worker in playing.workers:
                worker.end(len(worker.open))

    scene(work)


def test_who_ends_some_lets_another_have_them() -> None:
    async def work(playing: Scene) -> None:
        one, two, *_ = playing.workers
        await one.take_all(BOUND)
        assert not two.take()
        one.end(3)
        await until(lambda: two.take() or playing.used > BOUND, "one of another worker")
        assert playing.used <= BOUND
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while two.take():
                    await asyncio.sleep(0.01)
        assert playing.used <= BOUND

    scene(work)


@pytest.mark.parametrize("number", range(2))
def test_an_ejection_is_known_to_all(number: int) -> None:
    async def work(playing: Scene) -> None:
        made = snapshot()
        name = name_of(made.services["web"].instances[1])
        ejection = Ejection(name, asyncio.get_running_loop().time() + 30, 1)
        playing.workers[number].live.http.sharing.ejected(COURSE, ejection)
        others = [worker.live.http.router.dispatch for place, worker in enumerate(playing.workers) if place != number]
        await until(lambda: all(each._lane(made.services, COURSE).outliers.is_ejected(name, 0.0) for each in others), "all leave it alone")

    scene(work)
