"""The steps by which one root replaces another, and the way back."""

from datetime import UTC, datetime

import pytest

from certs.local_ca import LocalCa
from nodeagent.embedded.authority import active_ca, add_root, found_realm, read_roots
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import Conflict
from nodeagent.embedded.rotation import NEXT, Phase, Step, back_step, check_step, losing, phase_of, take_step

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: found_realm(change, "dc1", NOW))
    yield made
    made.close()


def taken(connection, *steps):
    """The roots after these steps, each allowed when it is taken."""
    for step in steps:
        check_step(read_roots(connection), step)

        def turn(change, step=step):
            take_step(change, step)
            if step == Step.ADD:
                add_root(change, LocalCa.create("x.consul", NOW), active=False)

        commit(connection, turn)
    return read_roots(connection)


A, B, R, DROP, DEACT, RESTORE = Step.ADD, Step.ACTIVATE, Step.RETIRE, Step.DROP, Step.DEACTIVATE, Step.RESTORE


@pytest.mark.parametrize(
    ("steps", "phase", "back", "signs", "believed"),
    [
        ((), Phase.STEADY, None, 0, {0}),
        ((A,), Phase.ADDED, DROP, 0, {0, 1}),
        ((A, B), Phase.ACTIVATED, DEACT, 1, {0, 1}),
        ((A, B, R), Phase.STEADY, RESTORE, 1, {1}),
        ((A, DROP), Phase.STEADY, None, 0, {0}),
        ((A, B, DEACT), Phase.ADDED, DROP, 0, {0, 1}),
        ((A, B, R, RESTORE), Phase.ACTIVATED, DEACT, 1, {0, 1}),
        ((A, B, R, RESTORE, DEACT, DROP), Phase.STEADY, None, 0, {0}),
        ((A, B, R, A), Phase.ADDED, DROP, 1, {1, 2}),
        ((A, B, R, A, B, R), Phase.STEADY, RESTORE, 2, {2}),
    ],
)
def test_where_the_steps_lead(connection, steps, phase, back, signs, believed):
    """One root signs always, and it is believed; roots are numbered in the order in which they came."""
    known = [root.id for root in read_roots(connection)]
    for step in steps:
        known += [root.id for root in taken(connection, step) if root.id not in known]
    roots = read_roots(connection)
    assert (phase_of(roots), back_step(roots)) == (phase, back)
    assert [known.index(root.id) for root in roots if root.active] == [signs]
    assert {known.index(root.id) for root in roots if root.trusted} == believed
    assert active_ca(connection, "x.consul")[1] == known[signs]


@pytest.mark.parametrize("before", [(), (A,), (A, B), (A, B, R)])
def test_a_step_that_is_neither_next_nor_back_is_refused(connection, before):
    """It names those that are."""
    roots = taken(connection, *before)
    possible = {NEXT[phase_of(roots)], back_step(roots)}
    for step in set(Step) - possible:
        with pytest.raises(Conflict, match=f"{step} is not possible now .*{NEXT[phase_of(roots)]}"):
            check_step(roots, step)


def test_only_two_steps_take_a_root_away(connection):
    roots = taken(connection, A, B)
    old = next(root for root in roots if not root.active)
    assert {step: losing(roots, step) for step in Step if losing(roots, step)} == {R: old, DROP: old}


def test_a_key_is_never_shown(connection):
    assert "PRIVATE" not in repr(taken(connection, A))
