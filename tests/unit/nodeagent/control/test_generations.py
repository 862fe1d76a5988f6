"""Generations of the agent, from what its workers are."""

import pytest

from nodeagent.control.generations import Reloaded, generations_of, judge_back, judge_reload
from nodeagent.control.report import (
    CatalogPart,
    GenerationPart,
    IdentityPart,
    InterceptionPart,
    Status,
    SupervisorPart,
    WorkerPart,
)


def worker(generation: int, state: str = "serving", *, connections: int = 0, until: float = 0.0, pid: int = 7) -> WorkerPart:
    """One of that generation."""
    return WorkerPart(
        number=0, pid=pid, state=state, started_at=100.0 * generation, restarts=0, connections=connections,
        agent_generation=generation, version=f"{generation}.0", drain_until=until,
    )  # fmt: skip


def status(generation: int, workers: list[WorkerPart], refused: int = 0) -> Status:
    """Of an agent that was reloaded so often."""
    supervisor = SupervisorPart(
        pid=1, version="", started_at=0, heard_s=0, generation=generation, reloads_refused=refused, reload_refused="a typo"
    )
    return Status(
        host="h", datacenter="dc1", mode="strict", version="1", control_pid=1, control_started_at=0, healthy=True,
        problems=[], warnings=[], supervisor=supervisor, interception=InterceptionPart(state="active"), workers=workers,
        catalog=CatalogPart(address="", connected=True, source="none", generation=0, age_s=0),
        identity=IdentityPart(trust_domain="", roots=0, certificates=0, missing=[]),
    )  # fmt: skip


def test_the_youngest_comes_first_and_one_that_drains_says_until_when() -> None:
    """A slot without a worker is of none."""
    rows = [
        worker(1, "draining", connections=2, until=500.0), worker(1, "draining", connections=3, until=600.0),
        worker(2, connections=4), worker(2, "standby"), worker(2, "dead", pid=0),
    ]  # fmt: skip
    assert generations_of(rows) == [
        GenerationPart(generation=2, version="2.0", workers=2, started_at=200.0, connections=4, drain_until=0.0),
        GenerationPart(generation=1, version="1.0", workers=2, started_at=100.0, connections=5, drain_until=600.0),
    ]


BEFORE = status(1, [worker(1)])


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (None, Reloaded("waiting", "nobody listens")),
        (status(1, [worker(1)]), Reloaded("waiting", "the next program checks itself")),
        (status(1, [worker(1)], refused=1), Reloaded("refused", "a typo")),
        (status(2, [worker(1), worker(2)]), Reloaded("waiting", "1 workers of the generation before still accept connections")),
        (status(2, [worker(1, "draining"), worker(2, "opening")]),
         Reloaded("waiting", "0 workers of the generation before still accept connections")),
        (status(2, [worker(1, "draining"), worker(2)]), Reloaded("done")),
    ],
)  # fmt: skip
def test_a_reload_is_done_when_the_next_generation_serves_in_place_of_the_one_before(
    now: Status | None, expected: Reloaded
) -> None:
    """And refused when the supervisor has counted one more refusal."""
    assert judge_reload(BEFORE, now, "nobody listens") == expected


@pytest.mark.parametrize(
    ("now", "version", "expected"),
    [
        (None, "", Reloaded("waiting", "nobody listens")),
        (status(3, [worker(3)]), "1.0", Reloaded("waiting", "the agent is ")),
        (status(3, [worker(2), worker(3, "opening")]), "", Reloaded("waiting", "no worker of  accepts connections yet")),
        (status(3, [worker(3)]), "", Reloaded("done")),
        (status(1, [worker(1)]), "", Reloaded("done")),
    ],
)
def test_it_is_back_when_that_version_serves_whatever_was_between(now: Status | None, version: str, expected: Reloaded) -> None:
    """No count of generations tells it: a crash between starts anew with the first."""
    assert judge_back(now, version, "nobody listens" if now is None else "") == expected
