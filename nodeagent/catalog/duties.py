"""What the agent of a host is to look at for the catalog, and what a look says of how it is: pure."""

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.errors import CatalogError

Status = Literal["passing", "warning", "critical"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=limits.CHECK_INTERVAL_MAX_S)]


class Duty(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """One check that the agent of its host looks at."""

    check_id: str = msgspec.field(name="CheckID")
    type: Literal["tcp", "http"]
    target: str
    """Of tcp: `10.0.0.1:80`; of http: the URL."""
    method: Literal["GET", "HEAD"] = "GET"
    header: dict[str, tuple[str, ...]] = {}
    interval_s: _Seconds
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=limits.CHECK_TIMEOUT_MAX_S)]
    tls_skip_verify: bool = msgspec.field(name="TLSSkipVerify", default=False)
    success_before_passing: int = 0
    failures_before_critical: int = 0
    status: Status = "critical"
    """As the catalog has it."""


_Duties = Annotated[list[Duty], msgspec.Meta(max_length=limits.CHECK_DUTIES)]


class Look(NamedTuple):
    """What one look found."""

    status: Status
    output: str
    is_late: bool = False
    """There was no answer in time."""


class Verdict(NamedTuple):
    """How a check is, after all looks so far."""

    status: Status
    streak: int = 0
    """How many looks in a row said the same: well, or not."""
    is_well: bool = False
    """What they said."""


def parse_duties(body: bytes) -> tuple[Duty, ...]:
    """The checks of `/v1/nodeagent/checks`.

    Raises:
        CatalogError: not such an answer.
    """
    try:
        return tuple(msgspec.json.decode(body, type=_Duties))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"/v1/nodeagent/checks: {error}") from error


def shortest_s(intervals_s: Iterable[float]) -> float:
    """The interval below which none may be, for all looks together to be CHECK_LOOKS_PER_S at most; 0: they are.

    So those that are looked at most often wait longer, and each of them as long; those that want fewer looks keep their interval.
    """
    room, wanted = limits.CHECK_LOOKS_PER_S, sorted(intervals_s, reverse=True)
    for done, interval_s in enumerate(wanted):
        share_s = (len(wanted) - done) / room
        if interval_s < share_s:
            return share_s
        room -= 1 / interval_s
    return 0.0


def judge(before: Verdict, look: Look, duty: Duty) -> Verdict:
    """How the check is after one more look. As with Consul a change waits for so many looks in a row as were asked for."""
    is_well = look.status != "critical"
    streak = before.streak + 1 if is_well == before.is_well else 1
    needed = duty.success_before_passing if is_well else duty.failures_before_critical
    was_well = before.status != "critical"
    is_settled = streak >= needed or was_well == is_well
    return Verdict(look.status if is_settled else before.status, streak, is_well)
