"""When to ask again."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.pace import Bucket, backoff_s, has_gone_back, is_cut_short, next_index
from nodeagent.control.watch import Rhythm
from tests.support.loop import until
from tests.support.scripted_catalog import NODES
from tests.unit.nodeagent.control.test_watch import Scene, played


@pytest.mark.parametrize(
    ("last", "header", "expected"),
    [
        (0, "10", 10),
        (10, "10", 10),
        (10, "11", 11),
        (10, "9", 0),  # gone back
        (10, "0", 1),
        (10, None, 1),
        (10, "ten", 0),
        (10, "-3", 0),
        (10, "", 0),
        (10, "٣", 0),  # a digit, but not ASCII's
        (10, str(2**63), 0),
        (10, str(2**63 - 1), 2**63 - 1),
        (10, "9" * 5000, 0),
    ],
)
def test_index_of_the_next_query(last: int, header: str | None, expected: int) -> None:
    assert expected == next_index(last, header)


@pytest.mark.parametrize(
    ("last", "header", "expected"),
    [(10, "9", True), (10, "10", False), (10, "11", False), (0, "9", False), (10, "0", False), (10, None, False), (10, "x", False),
     (10, "9" * 5000, False), (1, "1", False)],
)  # fmt: skip
def test_an_index_goes_back_only_to_another_index(last: int, header: str | None, expected: bool) -> None:  # noqa: FBT001 - a table's column
    assert has_gone_back(last, header) is expected


def test_backoff_doubles_to_its_ceiling() -> None:
    seconds = [backoff_s(failures, 0.0) for failures in range(1, 12)]
    assert seconds[:3] == [limits.CATALOG_BACKOFF_MIN_S * factor for factor in (1, 2, 4)]
    assert max(seconds) == seconds[-1] == limits.CATALOG_BACKOFF_MAX_S
    assert backoff_s(10**6, 0.0, 150.0) == 150.0


def test_chance_takes_off_up_to_a_half() -> None:
    assert backoff_s(1, 0.999) == pytest.approx(backoff_s(1, 0.0) / 2, rel=0.01)


def test_bucket_lets_a_burst_through_and_then_one_a_second() -> None:
    bucket = Bucket(rate_per_s=1.0, burst=3)
    assert [bucket.take(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 1.0, 2.0]


def test_bucket_fills_again_but_not_beyond_the_burst() -> None:
    bucket = Bucket(rate_per_s=1.0, burst=2)
    for _ in range(2):
        bucket.take(100.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("asked", "header", "waited_s", "expected"),
    [(10, "10", 299.9, True), (10, "10", 300.0, False), (10, "11", 1.0, False), (10, "9", 1.0, False), (0, "0", 0.0, False), (1, None, 0.0, False)],
)
def test_a_wait_is_cut_short_that_ends_early_with_the_index_that_it_had(asked: int, header: str | None, waited_s: float, *, expected: bool) -> None:
    assert expected == is_cut_short(asked, header, waited_s, 300.0)


def test_a_wait_that_ends_early_without_news_is_followed_by_a_full_question() -> None:
    """So Consul ends all waits when a snapshot is restored: with what it had before, and an index that is far above those that come."""

    async def script(scene: Scene) -> None:
        def abandoned(request: web.Request) -> web.Response | None:
            if not request.query.get("index"):
                return None
            scene.peer.scripts.clear()
            scene.peer.values[NODES] = (3, ["restored"])
            return web.json_response([], headers={"X-Consul-Index": "10"})

        scene.peer.scripts[NODES] = abandoned
        await until(lambda: scene.applied == [b"[]", b'["restored"]'], "what was restored")
        assert scene.indexes()[:3] == ["", "10", ""]
        assert "went back from 10 to 3" in scene.catalog.rewound

    played(script)


def test_a_catalog_that_ends_every_wait_at_once_is_asked_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """In full and with the index by turns, at the pace of any other answers."""
    taken: list[float] = []
    monkeypatch.setattr(Bucket, "take", lambda _bucket, now: taken.append(now) or 0.01)

    async def script(scene: Scene) -> None:
        scene.peer.scripts[NODES] = lambda _: web.json_response([], headers={"X-Consul-Index": "10"})
        await until(lambda: len(scene.indexes()) >= 6, "some questions")
        assert scene.indexes()[:6] == ["", "10", "", "10", "", "10"]
        assert len(taken) >= len(scene.indexes())
        assert scene.applied == [b"[]"]

    played(script)


def test_a_wait_that_ends_in_its_time_is_followed_by_another() -> None:
    async def script(scene: Scene) -> None:
        await until(lambda: len(scene.indexes()) >= 4, "some questions", 20)
        assert scene.indexes()[:4] == ["", "10", "10", "10"]

    played(script, rhythm=Rhythm(wait_s=1.0))
