"""Which losses are believed."""

import pytest
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.control.hold_back import HoldBack, is_suspicious, lost_rows, release_taken
from tests.support.mesh import HOST2, HOST3, instance

FOUR = tuple(instance(HOST2, port) for port in (1, 2, 3, 4))
PAIR, ONE = FOUR[:2], FOUR[:1]


def ids(rows) -> list[int]:
    return sorted(row.instance.addresses[0].port for row in rows)


@pytest.mark.parametrize(
    ("before", "answer", "expected"),
    [
        (FOUR, FOUR, False),
        (FOUR, FOUR[:2], False),
        (FOUR, FOUR[:1], True),
        (FOUR, (), True),
        (PAIR, ONE, False),
        (ONE, (), True),
        ((), FOUR, False),
        ((), (), False),
    ],
)
def test_more_than_half_is_suspicious(before, answer, *, expected: bool) -> None:
    assert expected == is_suspicious(before, answer)


def test_a_lost_majority_is_kept_until_the_hold_ends() -> None:
    hold = HoldBack(hold_s=300, at_least=3)
    first = hold.admit("db", FOUR, ONE, doubt="", now=1000)
    assert (ids(first.rows), ids(first.lost)) == ([1, 2, 3, 4], [2, 3, 4])
    assert "db: 3 of 4 instances vanished" in first.why
    assert ids(hold.admit("db", first.rows, ONE, doubt="", now=1299).rows) == [1, 2, 3, 4]
    last = hold.admit("db", first.rows, ONE, doubt="", now=1300)
    assert (ids(last.rows), last.why) == ([1], "")


def test_a_recovered_answer_ends_the_hold_and_a_later_loss_has_its_own() -> None:
    hold = HoldBack(hold_s=300, at_least=3)
    hold.admit("db", FOUR, (), doubt="", now=1000)
    assert hold.admit("db", FOUR, FOUR, doubt="", now=1200).why == ""
    assert hold.admit("db", FOUR, (), doubt="", now=1310).lost == FOUR


@pytest.mark.parametrize("before", [ONE, PAIR])
def test_the_last_of_one_or_two_instances_goes_at_once_when_the_catalog_proves_itself(before) -> None:
    admitted = HoldBack().admit("web", before, (), doubt="", now=0)
    assert (admitted.rows, admitted.why) == ((), "")


@pytest.mark.parametrize("before", [ONE, PAIR])
def test_a_small_service_that_an_older_catalog_does_not_know_is_kept_for_its_time(before) -> None:
    """Nobody has stopped it: the catalog has forgotten it."""
    hold = HoldBack(hold_s=300)
    for now in (0, 299):
        admitted = hold.admit("web", before, (), doubt="", now=now, older="its index went back")
        assert admitted.lost == before
    assert hold.admit("web", before, (), doubt="", now=300, older="its index went back").rows == ()


def test_without_the_proof_even_a_single_instance_is_kept_however_long_that_takes() -> None:
    hold = HoldBack(hold_s=300)
    for now in (0, 299, 301, 10_000):
        admitted = hold.admit("web", ONE, (), doubt="the token may not", now=now)
        assert admitted.rows == ONE
        assert admitted.why == "web: 1 of 1 instances vanished at once; kept until it is proven that they are gone: the token may not"
    assert hold.admit("web", ONE, (), doubt="", now=10_001).rows == ()


def test_the_time_of_a_bigger_service_begins_with_the_proof() -> None:
    hold = HoldBack(hold_s=300, at_least=3)
    hold.admit("db", FOUR, (), doubt="the token may not", now=0)
    assert hold.admit("db", FOUR, (), doubt="", now=1000).rows == FOUR
    assert hold.admit("db", FOUR, (), doubt="the token may not", now=1299).rows == FOUR
    assert hold.admit("db", FOUR, (), doubt="", now=1300).rows == FOUR
    assert hold.admit("db", FOUR, (), doubt="", now=1600).rows == ()


def test_new_instances_are_in_force_while_old_ones_are_held() -> None:
    new = (instance(HOST3, 9),)
    admitted = HoldBack().admit("db", FOUR, new, doubt="", now=0)
    assert ids(admitted.rows) == [1, 2, 3, 4, 9]


@pytest.mark.parametrize("why", [{"doubt": "the token may not"}, {"doubt": "", "older": "it was away"}])
def test_what_is_held_unproven_is_not_let_go_for_new_ones_beside_it(why) -> None:
    """Then as many came as are lost, which is no majority; the proof lets go of them."""
    hold, new = HoldBack(hold_s=300), (instance(HOST3, 9),)
    first = hold.admit("db", ONE, new, **why, now=0)
    again = hold.admit("db", first.rows, new, **why, now=1)
    assert (again.rows, again.lost) == (new + ONE, ONE)
    assert hold.admit("db", again.rows, new, doubt="", now=2).rows == new
    assert hold.admit("db", new + ONE, new, **why, now=3).rows == new


def test_lost_rows_are_told_by_host_and_id() -> None:
    assert lost_rows((instance(HOST2, 1, id_="a"), instance(HOST3, 1, id_="a")), (instance(HOST3, 2, id_="a"),)) == (
        instance(HOST2, 1, id_="a"),
    )


def test_a_held_address_that_another_instance_has_taken_is_let_go() -> None:
    squatter = instance(HOST2, 4, id_="new")
    instances = {"db": FOUR, "web": (squatter,)}
    released = release_taken(instances, {"db": FOUR[1:]})
    assert ids(released["db"]) == [1, 2, 3]
    assert released["web"] == (squatter,)


def test_what_is_gone_has_taken_no_address() -> None:
    """Else a service that was renamed, and is held, would be called by its name of before."""
    before = replace(FOUR[0], instance=replace(FOUR[0].instance, gone=True))
    instances = {"old": (before,), "new": ONE}
    assert release_taken(instances, {"new": ONE}) == instances


def test_nothing_held_changes_nothing() -> None:
    assert release_taken({"db": FOUR}, {}) == {"db": FOUR}


def test_few_instances_are_nobody_s_accident_by_default() -> None:
    """Fewer than HOLD_BACK_INSTANCES are stopped by hand."""
    least = limits.HOLD_BACK_INSTANCES
    hold = HoldBack()
    assert hold.admit("db", FOUR[: least - 1], (), doubt="", now=0).rows == ()
    assert hold.admit("web", FOUR[:least], (), doubt="", now=0).lost == FOUR[:least]


def test_what_is_on_a_host_that_the_token_may_not_read_stays() -> None:
    """Of the others what was lost is judged as if it was all there was."""
    hold, hidden = HoldBack(hold_s=300, at_least=3), frozenset({FOUR[0].instance.host})
    first = hold.admit("db", FOUR, (), doubt="", now=1000, hidden=hidden)
    assert (first.rows, first.lost) == (FOUR, FOUR)
    assert 'db: 4 instances are shown no more; kept: the token may not read the host (give it node "' in first.why
    assert hold.admit("db", FOUR, (), doubt="", now=9000, hidden=hidden).rows == FOUR
    assert hold.admit("db", ONE, (), doubt="", now=9000, hidden=frozenset({"another"})).rows == ()
