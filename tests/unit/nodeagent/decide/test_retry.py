"""When a request is sent once more."""

import pytest

from nodeagent import limits
from nodeagent.decide.retry import NO_RETRIES, Budget, Failure, RetryPolicy, backoff_s, may_resend, retry_policy
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.values import Duration
from tests.support.routes import to


@pytest.mark.parametrize(
    ("method", "is_sent", "upstream_started", "may"),
    [
        (b"POST", False, None, True),
        (b"POST", True, False, True),
        (b"POST", True, None, False),
        (b"POST", True, True, False),
        (b"PATCH", True, None, False),
        (b"BREW", True, None, False),
        (b"get", True, None, False),
        (b"GET", True, True, True),
        (b"PUT", True, None, True),
        (b"DELETE", True, None, True),
        (b"HEAD", True, True, True),
        (b"OPTIONS", True, True, True),
        (b"TRACE", True, True, True),
        (b"CONNECT", True, None, False),
    ],
)
def test_nothing_is_done_twice(method: bytes, *, is_sent: bool, upstream_started: bool | None, may: bool) -> None:
    """Unless to do it twice is to do it once, or it was certainly not begun."""
    assert may == may_resend(method, is_sent=is_sent, upstream_started=upstream_started)


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        (None, NO_RETRIES),
        (to(), NO_RETRIES),
        (to(num_retries=5), NO_RETRIES),
        (to(retry_on=("5xx",)), RetryPolicy(frozenset(("5xx",)), frozenset(), 1)),
        (to(retry_on_connect_failure=True, num_retries=2), RetryPolicy(frozenset(("connect-failure",)), frozenset(), 2)),
        (to(retry_on_status_codes=(503,), num_retries=1000), RetryPolicy(frozenset(), frozenset((503,)), limits.RETRIES)),
    ],
)
def test_a_route_says_when_and_how_often(said, policy: RetryPolicy) -> None:
    """Only how often is nothing; only when is once."""
    assert policy == retry_policy(said)


@pytest.mark.parametrize(
    ("condition", "failures"),
    [
        ("5xx", ["connect-failure", "refused-stream", "reset", "reset-before-request", "timeout"]),
        ("connect-failure", ["connect-failure"]),
        ("refused-stream", ["refused-stream"]),
        ("reset", ["reset", "reset-before-request", "timeout"]),
        ("reset-before-request", ["reset-before-request"]),
        ("gateway-error", []),
    ],
)
def test_failures_for_which_a_request_is_tried_again(condition: str, failures: list[Failure]) -> None:
    """As Envoy names them."""
    every: list[Failure] = ["connect-failure", "refused-stream", "reset", "reset-before-request", "timeout"]
    policy = RetryPolicy(frozenset((condition,)), frozenset(), 1)
    assert failures == [failure for failure in every if policy.is_for_failure(failure)]


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        (NO_RETRIES, []),
        (RetryPolicy(frozenset(("5xx",))), [500, 502, 503, 504, 599]),
        (RetryPolicy(frozenset(("gateway-error",))), [502, 503, 504]),
        (RetryPolicy(frozenset(("retriable-4xx",))), [409]),
        (RetryPolicy(frozenset(), frozenset((429, 503))), [429, 503]),
    ],
)
def test_answers_for_which_a_request_is_tried_again(policy: RetryPolicy, statuses: list[int]) -> None:
    """By class, or one by one."""
    assert statuses == [status for status in (200, 404, 409, 429, 500, 502, 503, 504, 599) if policy.is_for_status(status)]


def test_an_answer_of_envoy_s_rate_limit_can_be_one() -> None:
    """It has a header of its own."""
    policy = RetryPolicy(frozenset(("envoy-ratelimited",)))
    assert policy.is_for_status(429, is_ratelimited=True)
    assert not policy.is_for_status(429)


def test_tries_are_further_apart_each_time() -> None:
    """Up to a bound, and never at the same moment for all."""
    assert [0.025, 0.075, 0.175, 0.25, 0.25] == [pytest.approx(backoff_s(tried, 1.0)) for tried in (1, 2, 3, 4, 50)]
    assert backoff_s(3, 0.0) == 0.0
    assert backoff_s(9, 1.0) == limits.RETRY_MAX_S
    assert backoff_s(1, 1.0) == limits.RETRY_BASE_S


def taken(budget: Budget, now: float) -> int:
    count = 0
    while budget.try_take(now):
        count += 1
    return count


def test_a_share_of_the_requests_may_be_retries_and_some_in_any_case() -> None:
    """20 % and three a second, over ten seconds."""
    budget = Budget()
    assert int(limits.RETRY_MIN_PER_S * limits.RETRY_TTL_S) == taken(budget, 0.0)
    for _ in range(100):
        budget.count_request(1.0)
    assert 100 * limits.RETRY_RATIO == taken(budget, 1.0)


def test_requests_count_for_a_while() -> None:
    """Then their retries are forgotten, too."""
    budget = Budget(RetryBudget(kind="retry-budget", name="web", ratio=0.5, min_per_second=0.0, ttl=Duration(2 * 10**9)))
    for _ in range(10):
        budget.count_request(0.0)
    assert taken(budget, 1.9) == 5
    assert taken(budget, 2.0) == 0
    for _ in range(4):
        budget.count_request(2.5)
    assert taken(budget, 2.5) == 0  # the five of 1.9 still count
    assert taken(budget, 4.4) == 2


def test_workers_share_what_is_allowed_in_any_case() -> None:
    """Together they have it once."""
    assert sum(taken(Budget(workers=4), 0.0) for _ in range(4)) <= limits.RETRY_MIN_PER_S * limits.RETRY_TTL_S


def test_a_long_body_is_not_kept() -> None:
    """An entry can want less, and not more."""
    assert limits.RETRY_BODY_BYTES == Budget().body_bytes
    for said, most in ((0, 0), (100, 100), (10**9, limits.RETRY_BODY_BYTES)):
        assert most == Budget(RetryBudget(kind="retry-budget", name="*", max_body_bytes=said)).body_bytes


def test_a_budget_takes_a_bounded_memory() -> None:
    """However many requests come."""
    budget = Budget()
    for number in range(10_000):
        budget.count_request(number / 10)
    assert len(budget._counts) <= 12
