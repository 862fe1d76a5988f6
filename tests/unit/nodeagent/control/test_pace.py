"""When to ask again."""

import pytest

from nodeagent import limits
from nodeagent.control.pace import Bucket, backoff_s, has_gone_back, next_index


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
