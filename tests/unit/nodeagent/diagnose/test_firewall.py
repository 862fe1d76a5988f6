"""Judgements on packet filter rules, each with what makes it."""

import pytest

from nodeagent.diagnose import firewall
from nodeagent.diagnose.facts import Managers, Redirection, Rules
from redirect.plan import OUT_HOOK, PRE_HOOK
from tests.unit.nodeagent.diagnose.verdicts import only, shown


def test_our_places_are_those_of_the_plan() -> None:
    """What comes before them comes before our rules."""
    assert (OUT_HOOK.priority, PRE_HOOK.priority) == (firewall._OUT_PRIORITY, firewall._PRE_PRIORITY)


@pytest.mark.parametrize(
    ("rules", "levels"),
    [
        (Rules(), ["ok"]),
        (Rules(backends=("nft",)), ["ok"]),
        (Rules(backends=("nft",), is_capturing=True, drift=("set units: missing", "policy rule: missing")), ["failed", "failed"]),
        (Rules(backends=("nft",), drift=("table inet nodeagent is missing", "policy rule: missing")), ["failed"]),
        (Rules(backends=("nft", "iptables")), ["failed", "ok"]),
        (Rules(twins=("inet nodeagent_twin_1",)), ["warning", "ok"]),
        (Rules(is_enabled=False), ["warning"]),
        (Rules(is_enabled=False, backends=("nft",), is_capturing=True), ["failed"]),
        (Rules(is_enabled=False, backends=("nft",)), ["warning"]),
    ],
)
def test_our_rules(rules: Rules, levels: list[str]) -> None:
    """As planned, once, nothing left over."""
    assert [level for level, _, _ in shown(firewall.judge_rules(rules))] == levels


@pytest.mark.parametrize(
    ("found", "level", "text"),
    [
        (Redirection("ip nat PREROUTING", "tcp dport 80 redirect to :8080", "prerouting", -100), "warning", "lets by"),
        (Redirection("ip nat OUTPUT", "redirect to :9", "output", -101), "failed", "comes before"),
        (Redirection("ip mangle PREROUTING", "tproxy to :9", "prerouting", -150), "failed", "comes before"),
        (Redirection("ip nat nowhere", "redirect to :9"), "warning", "lets by"),
        (Redirection("ip nat ISTIO_REDIRECT", "redirect to :15001", "output", -100, "Istio"), "failed", "of Istio"),
    ],
)
def test_redirections_of_others(found: Redirection, level: str, text: str) -> None:
    """Another mesh, and whatever comes first, takes connections from us."""
    verdict = only(firewall.judge_redirections((found,)))
    assert verdict[0] == level
    assert text in verdict[1]
    assert found.place in verdict[1]


def test_nobody_else_redirects() -> None:
    """Said once."""
    assert only(firewall.judge_redirections(()))[0] == "ok"


def test_each_manager_has_its_advice() -> None:
    """As known today."""
    names = tuple(sorted(firewall._MANAGERS))
    assert [level for level, _, _ in shown(firewall.judge_managers(Managers(names)))] == ["warning"] * 4
    assert only(firewall.judge_managers(Managers()))[0] == "ok"


def test_where_no_rule_is_left_an_agent_is_wanted_and_not_its_rules_alone() -> None:
    """As on a host where it was stopped on purpose: rules without an agent refuse calls."""
    found = only(firewall.judge_rules(Rules(drift=("table inet nodeagent is missing", "policy rule: missing"))))
    assert (found[0], "nothing is captured" in found[1], "intercept apply" in found[2]) == ("failed", True, False)
    assert found[2].endswith("systemctl start nodeagent")
