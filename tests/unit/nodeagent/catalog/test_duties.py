"""What an agent is to look at, and what looks say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import limits
from nodeagent.catalog.duties import Duty, Look, Verdict, judge, parse_duties, shortest_s
from nodeagent.errors import CatalogError

ROW = b'{"CheckID":"c","Type":"tcp","Target":"127.0.0.1:80","IntervalS":10.0,"TimeoutS":1.5,"TLSSkipVerify":true,"New":1}'
WELL, ILL, SLOW = Look("passing", ""), Look("critical", ""), Look("warning", "")


def duty(passes=0, fails=0):
    return Duty(
        check_id="c", type="tcp", target="127.0.0.1:80", interval_s=1.0, timeout_s=1.0, success_before_passing=passes,
        failures_before_critical=fails,
    )  # fmt: skip


def played(start, looks, **asked):
    verdict, statuses = Verdict(start), []
    for look in looks:
        verdict = judge(verdict, look, duty(**asked))
        statuses.append(verdict.status)
    return statuses


def test_duties_are_read_and_what_is_new_is_let_by():
    (found,) = parse_duties(b"[" + ROW + b"]")
    assert (found.check_id, found.target, found.interval_s, found.timeout_s, found.tls_skip_verify) == ("c", "127.0.0.1:80", 10.0, 1.5, True)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[{}]", b"\xff", b"[" * 10_000, b"[" + ROW.replace(b"10.0", b"0") + b"]", b"[" + ROW.replace(b"tcp", b"exec") + b"]"]
)
def test_an_answer_that_is_none_is_refused(body):
    with pytest.raises(CatalogError, match="/v1/nodeagent/checks"):
        parse_duties(body)


def test_so_many_are_taken_as_a_host_may_have():
    """Each is a task: of a catalog that says more nothing is taken."""
    row = ROW.replace(b'"New":1', b'"New":2')
    assert len(parse_duties(b"[" + b",".join([row] * limits.CHECK_DUTIES) + b"]")) == limits.CHECK_DUTIES
    with pytest.raises(CatalogError, match="length <= 16016"):
        parse_duties(b"[" + b",".join([row] * (limits.CHECK_DUTIES + 1)) + b"]")


def test_a_consul_of_1_8_7_judged_these_answers_the_same():
    """200, 429 and others, with SuccessBeforePassing 3 and FailuresBeforeCritical 2."""
    looks = [ILL, WELL, WELL, ILL, WELL, WELL, WELL, ILL, WELL, ILL, ILL, SLOW, SLOW, WELL, ILL, ILL]
    critical, passing = "critical", "passing"
    assert played(critical, looks, passes=3, fails=2) == [critical] * 6 + [passing] * 4 + [critical] * 3 + [passing] * 2 + [critical]


def test_the_first_look_decides_where_nothing_else_is_asked():
    assert played("critical", [WELL, ILL, SLOW, WELL]) == ["passing", "critical", "warning", "passing"]


def test_a_change_waits_for_so_many_looks_in_a_row():
    assert played("passing", [ILL, ILL, WELL, ILL, ILL, ILL], fails=3) == ["passing"] * 5 + ["critical"]
    assert played("critical", [WELL, ILL, WELL, SLOW, WELL], passes=2) == ["critical"] * 3 + ["warning", "passing"]
    assert played("passing", [ILL, SLOW], fails=2) == ["passing", "warning"], "a warning is no failure, and is shown at once"


@given(st.lists(st.sampled_from([WELL, ILL, SLOW])), st.integers(0, 5), st.integers(0, 5))
def test_the_last_looks_alike_decide(looks, passes, fails):
    statuses = played("critical", [*looks, *[ILL] * max(fails, 1)], passes=passes, fails=fails)
    assert statuses[-1] == "critical"
    statuses = played("critical", [*looks, *[WELL] * max(passes, 1)], passes=passes, fails=fails)
    assert statuses[-1] == "passing"


def rate(intervals, least_s):
    return sum(1 / max(each, least_s) for each in intervals)


def test_those_that_ask_for_most_looks_wait_longer_and_the_others_do_not():
    """A thousand each second and a hundred every 10 s are 1,010 looks a second."""
    assert shortest_s([]) == 0.0
    assert shortest_s([1.0] * int(limits.CHECK_LOOKS_PER_S)) == 0.0
    assert shortest_s([10.0] * 1000) == 0.0
    assert shortest_s([1.0] * 1000) == 1000 / limits.CHECK_LOOKS_PER_S
    mixed = [1.0] * 1000 + [10.0] * 100
    assert shortest_s(mixed) == pytest.approx(1000 / (limits.CHECK_LOOKS_PER_S - 10))


@given(st.lists(st.floats(1.0, limits.CHECK_INTERVAL_MAX_S), max_size=3000))
def test_all_looks_together_are_never_more_than_that(intervals):
    least_s = shortest_s(intervals)
    assert rate(intervals, least_s) <= limits.CHECK_LOOKS_PER_S * 1.000001
    if least_s:
        assert rate(intervals, least_s * 0.99) > limits.CHECK_LOOKS_PER_S, "and none waits longer than it must"
