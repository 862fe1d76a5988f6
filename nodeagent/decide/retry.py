"""When a request is sent once more: what was said of its route, what cannot do harm, and what a service can bear."""

from collections import deque
from typing import Final, Literal, NamedTuple

from nodeagent import limits
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.routing import RouteDestination

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))  # RFC 9110, 9.2.2

Failure = Literal["connect-failure", "refused-stream", "reset-before-request", "reset", "timeout"]
"""How an upstream failed that gave no answer: not reached; it said that it did nothing; gone before, or after, a byte went to it; silent."""

_OF_FAILURE: dict[Failure, frozenset[str]] = {
    "connect-failure": frozenset(("connect-failure", "5xx")),
    "refused-stream": frozenset(("refused-stream", "5xx")),
    "reset-before-request": frozenset(("reset-before-request", "reset", "5xx")),
    "reset": frozenset(("reset", "5xx")),
    "timeout": frozenset(("reset", "5xx")),
}
_GATEWAY_ERRORS = (502, 503, 504)


def may_resend(method: bytes, *, is_sent: bool, upstream_started: bool | None) -> bool:
    """Whether a request may be sent a second time without that anything is done twice.

    is_sent: any byte of it was written to where an application could read it.
    upstream_started: whether an application began to work on it; None: nobody can tell.
    """
    # 1) nobody has seen it
    if not is_sent:
        return True
    # 2) who saw it says that nothing was done
    if upstream_started is False:
        return True
    # 3) to do it twice is to do it once
    return method in _IDEMPOTENT


class RetryPolicy(NamedTuple):
    """When the requests of a route are tried again, and how often."""

    conditions: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    tries_more: int = 0

    def is_for_failure(self, failure: Failure) -> bool:
        """Whether to try again where no answer came."""
        return not self.conditions.isdisjoint(_OF_FAILURE[failure])

    def is_for_status(self, status: int, *, is_ratelimited: bool = False) -> bool:
        """Whether to try again in the place of this answer. is_ratelimited: it has `x-envoy-ratelimited`."""
        return status in self.statuses or any(each in self.conditions for each in _conditions_of(status, is_ratelimited=is_ratelimited))


NO_RETRIES: Final = RetryPolicy()


def retry_policy(said: RouteDestination | None) -> RetryPolicy:
    """Of a route. Where it says when, but not how often, once."""
    if said is None:
        return NO_RETRIES
    conditions = {*said.retry_on, *(("connect-failure",) if said.retry_on_connect_failure else ())}
    if not conditions and not said.retry_on_status_codes:
        return NO_RETRIES
    return RetryPolicy(frozenset(conditions), frozenset(said.retry_on_status_codes), min(said.num_retries or 1, limits.RETRIES))


def backoff_s(tried: int, draw: float) -> float:
    """How long to wait before the next try; any time up to a bound that doubles. tried: tries so far, from 1. draw: in [0, 1)."""
    return draw * min(limits.RETRY_BASE_S * ((1 << tried) - 1), limits.RETRY_MAX_S)


def _conditions_of(status: int, *, is_ratelimited: bool) -> list[str]:
    found = ["5xx"] if status >= 500 else []
    if status in _GATEWAY_ERRORS:
        found.append("gateway-error")
    if status == 409:
        found.append("retriable-4xx")
    if is_ratelimited:
        found.append("envoy-ratelimited")
    return found


class Budget:
    """How many retries a service can bear: a share of its requests, and a few in any case. Owned by one worker.

    It counts by tenths of its time.
    """

    def __init__(self, said: RetryBudget | None = None, *, workers: int = 1) -> None:
        """workers: that share what is allowed in any case."""
        ratio, least = (said.ratio, said.min_per_second) if said else (None, None)
        self._ratio = limits.RETRY_RATIO if ratio is None else ratio
        self._ttl_s = (said.ttl.seconds if said else 0.0) or limits.RETRY_TTL_S
        self._least = (limits.RETRY_MIN_PER_S if least is None else least) * self._ttl_s / workers
        body = said.max_body_bytes if said else None
        self.body_bytes = limits.RETRY_BODY_BYTES if body is None else min(body, limits.RETRY_BODY_BYTES)
        """A request with a longer body is not sent again."""
        self._counts: deque[list[float]] = deque()  # [until, requests, retries]
        self._requests = self._retries = 0

    def count_request(self, now: float) -> None:
        """A request came; its retries are told apart."""
        self._count(now)[1] += 1
        self._requests += 1

    def try_take(self, now: float) -> bool:
        """Whether one more retry is borne; it is counted then."""
        current = self._count(now)
        if self._retries + 1 > self._ratio * self._requests + self._least:
            return False
        current[2] += 1
        self._retries += 1
        return True

    def _count(self, now: float) -> list[float]:
        """The tenth of now; those that are too old are forgotten."""
        while self._counts and self._counts[0][0] <= now:
            _, requests, retries = self._counts.popleft()
            self._requests -= int(requests)
            self._retries -= int(retries)
        if not self._counts or self._counts[-1][0] <= now + self._ttl_s * 0.9:
            self._counts.append([now + self._ttl_s, 0, 0])
        return self._counts[-1]
