"""The whole report."""

import dataclasses

from nodeagent.diagnose.facts import Blind, Facts, Memory
from nodeagent.diagnose.finding import Finding
from nodeagent.diagnose.judge import CHECKS, judge
from nodeagent.diagnose.kernel_facts import Release


def test_every_fact_is_judged_once_in_the_order_of_the_report() -> None:
    """A fact that nobody judges would be gathered in vain."""
    assert [field.name for field in dataclasses.fields(Facts)] == [field for _, field, _, _ in CHECKS]


def test_what_does_not_concern_this_host_is_left_out() -> None:
    """None is no finding."""
    assert judge(Facts()) == ()


def test_what_could_not_be_looked_at_is_doubtful_and_says_why() -> None:
    """Never taken for well."""
    assert judge(Facts(rules=Blind("it took more than 20 s"))) == (
        Finding("firewall", "rules", "warning", "could not be looked at: it took more than 20 s"),
    )
    (finding,) = judge(Facts(ports=Blind("[Errno 1] Operation not permitted")), is_root=True)
    assert "container" in finding.cure
    assert "sudo" not in finding.cure


def test_roots_are_not_root() -> None:
    """What the catalog said of its CA is told to everybody."""
    (finding,) = judge(Facts(peers=Blind("the catalog answered 500 to /v1/connect/ca/roots")))
    assert "answered 500" in finding.found


def test_findings_come_by_group() -> None:
    """Each with its place."""
    found = judge(Facts(memory=Memory(2**30, 2**31), release=Release("4.19.0", (4, 19))))
    assert [(finding.group, finding.name, finding.level) for finding in found] == [("host", "memory", "ok"), ("kernel", "version", "failed")]


def test_what_only_root_sees_is_one_line_for_each_group() -> None:
    """Of whatever it was in the way of; what can be seen is judged all the same."""
    closed = Blind("[Errno 13] Permission denied")
    found = judge(Facts(agent=Blind("/run/x.sock is closed to uid 7; use sudo"), ports=closed, memory=Memory(2**33, 2**33), rules=closed))
    assert [(finding.group, finding.name, finding.level, finding.found) for finding in found] == [
        ("host", "memory", "ok", "8192 of 8192 MiB of memory are available"),
        ("host", "agent, ports", "warning", "only root can see this"),
        ("firewall", "rules", "warning", "only root can see this"),
    ]
    assert found[1].cure == "run it as root: sudo nodeagent check"
