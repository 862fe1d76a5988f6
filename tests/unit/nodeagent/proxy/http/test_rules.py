"""Rules of pairs: made once, and again when what they come from has changed."""

import dataclasses

import msgspec
import pytest

from nodeagent import limits
from nodeagent.decide.match import RequestView
from nodeagent.decide.requests import authorize_request
from nodeagent.errors import Denied
from nodeagent.model.message import RequestHead
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.http.rules import Rules
from tests.support.mesh import mesh


def may(rules: Rules, snapshot: Snapshot, source: str = "shop") -> bool:
    head = RequestHead(b"GET", b"/", b"web", [])
    try:
        authorize_request(rules.rule(snapshot, source, "web").rule, RequestView(head, b"/"))
    except Denied:
        return False
    return True


def test_a_rule_is_that_of_its_snapshot() -> None:
    """And the same object while nothing of it has changed."""
    rules, yes, no = Rules(), mesh("shop -> web allow"), mesh("shop -> web deny")
    assert may(rules, yes)
    assert rules.rule(yes, "shop", "web") is rules.rule(dataclasses.replace(yes, generation=9), "shop", "web")
    assert not may(rules, no)
    assert not may(rules, yes, "cron")


def test_a_mode_that_only_observes_enforces_nothing() -> None:
    observed = mesh("shop -> web deny", mode="observe")
    assert not Rules().rule(observed, "shop", "web").is_enforced
    assert Rules().rule(mesh("shop -> web deny"), "shop", "web").is_enforced


def test_a_change_of_mode_is_a_change() -> None:
    snapshot, rules = mesh("shop -> web allow"), Rules()
    assert rules.rule(snapshot, "shop", "web").is_enforced
    changed = dataclasses.replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, mode="observe"))
    assert not rules.rule(changed, "shop", "web").is_enforced


def test_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was made first goes."""
    monkeypatch.setattr(limits, "REQUEST_RULES", 2)
    rules, snapshot = Rules(limits.REQUEST_RULES), mesh()
    made = [rules.rule(snapshot, source, "web") for source in ("a", "b", "c")]
    assert rules.rule(snapshot, "c", "web") is made[2]
    assert rules.rule(snapshot, "a", "web") is not made[0]
