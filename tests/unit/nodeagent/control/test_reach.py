"""Which services a host has most to do with."""

import pytest

from nodeagent import limits
from nodeagent.catalog.state import MARKER_SERVICE, IntentionRow
from nodeagent.control.reach import Dialled, Reach
from tests.support.by_request import row_of

INTENTIONS = (
    IntentionRow("shop", "named", "allow"), IntentionRow("shop", "denied", "deny"), IntentionRow("*", "open", "allow"),
    IntentionRow("else", "others", "allow"), IntentionRow("shop", "*", "allow"),
)  # fmt: skip
NAMES = ("a", "denied", "dialled", "named", "nodeagent", "open", "others", "shop")


def nearest(reach: Reach, room: int, names=NAMES, spoken=frozenset({"shop"}), intentions=INTENTIONS, watched=()) -> set[str]:
    found = reach.nearest(names, room, spoken=spoken, dialled={"dialled"}, intentions=intentions, watched=watched)
    assert len(found) == min(room, len(names))
    return {*found}


def test_agents_come_first_and_strangers_last() -> None:
    order = [nearest(Reach(), room) for room in range(len(NAMES) + 1)]
    added = [(order[n + 1] - order[n]).pop() for n in range(len(NAMES))]
    assert added == [MARKER_SERVICE, "shop", "dialled", "named", "open", "a", "denied", "others"]


def test_of_equals_those_that_are_watched_stay() -> None:
    assert nearest(Reach(), 1, ("a", "b", "c"), watched=("c",)) == {"c"}
    assert nearest(Reach(), 1, ("a", "b", "named"), watched=("b",)) == {"named"}


def test_another_host_s_services_reach_others() -> None:
    """And what was told of intentions before does not count."""
    reach = Reach()
    assert nearest(reach, 1, ("named", "others")) == {"named"}
    assert nearest(reach, 1, ("named", "others"), spoken=frozenset({"else"})) == {"others"}
    assert nearest(reach, 1, ("named", "others"), intentions=(IntentionRow("shop", "others", "allow"),)) == {"others"}


def test_who_was_called_is_remembered_for_a_while() -> None:
    now = [1000.0]
    dialled = Dialled(lambda: now[0])
    assert dialled.note({"web", ""})
    assert not dialled.note({"web"})
    now[0] += limits.CATALOG_DIALLED_S - 1
    assert dialled.note({"db"})
    assert dialled.recent() == {"web", "db"}
    now[0] += 1
    assert dialled.recent() == {"db"}
    assert dialled.note({"web"})


def test_no_more_are_remembered_than_can_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_WATCHES", 2)
    dialled = Dialled(lambda: 1.0)
    for name in ("a", "b", "a", "c"):
        dialled.note([name])
    assert dialled.recent() == {"a", "c"}


def test_who_may_ask_for_some_things_may_call() -> None:
    """As an intention names it."""
    assert nearest(Reach(), 1, names=("db", "web"), intentions=(row_of("shop", "web"),)) == {"web"}


def test_where_requests_lead_is_as_near_as_what_is_called() -> None:
    """A router's services are not dialled, and take its requests all the same."""
    reach = Reach()
    reach.ways = {"dialled": ("others",), "named": ("denied",)}
    assert nearest(reach, 4) == {"nodeagent", "shop", "dialled", "others"}
    assert nearest(reach, 6) == {"nodeagent", "shop", "dialled", "others", "named", "denied"}
