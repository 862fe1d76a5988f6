"""Instances that the catalog has no more."""

import pytest

from nodeagent import limits
from nodeagent.control.lately import Lately, there
from tests.support.mesh import HOST1, HOST2, HOST3, instance

WEB = (instance(HOST2, 80), instance(HOST3, 80))


def marks(rows) -> dict[str, bool]:
    return {row.instance.host: row.instance.gone for row in rows}


def left(lately: Lately, rows, now: float, *, is_sane: bool = True):
    return {service: marks(rest) for service, rest in lately.expired({"web": rows}, now, is_sane=is_sane)}


def test_what_is_gone_stays_marked_for_its_time_however_few_there_were() -> None:
    lately = Lately("host1", hold_s=300)
    rows = lately.admit("web", WEB, WEB[:1], 1000)
    assert marks(rows) == {"host2": False, "host3": True}
    assert there(rows) == WEB[:1]
    assert not rows[1].instance.healthy
    rows = lately.admit("web", rows, (), 1200)
    assert marks(rows) == {"host2": True, "host3": True}
    assert left(lately, rows, 1299) == {}
    assert left(lately, rows, 1300) == {"web": {"host2": True}}
    assert marks(lately.admit("web", rows[:1], (), 1499)) == {"host2": True}
    assert bool(lately)
    assert lately.admit("web", rows[:1], (), 1500) == ()
    assert not lately


def test_what_comes_back_is_there_and_has_its_time_anew_when_it_goes_again() -> None:
    lately = Lately("host1", hold_s=300)
    rows = lately.admit("web", WEB[:1], (), 1000)
    assert marks(lately.admit("web", rows, WEB[:1], 1100)) == {"host2": False}
    assert not lately
    assert marks(lately.admit("web", WEB[:1], (), 1310)) == {"host2": True}


def test_an_instance_in_whose_place_there_is_another_is_not_kept() -> None:
    """Whose application was started anew, say; of several that are gone one stands for the place."""
    lately = Lately("host1")
    old, new = instance(HOST2, 80, id_="old"), instance(HOST2, 80, id_="new")
    assert lately.admit("web", (old,), (new,), 0) == (new,)
    rows = lately.admit("web", (old, new, instance(HOST2, 81)), (), 0)
    assert [row.instance.id for row in rows] == ["old", "host2-81"]


def test_no_more_are_kept_of_a_service_than_an_answer_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest stay."""
    monkeypatch.setattr(limits, "CATALOG_INSTANCES", 2)
    lately, rows = Lately("host1"), ()
    for port in range(1, 5):
        rows = lately.admit("web", (*rows, instance(HOST2, port)), (), 0)
    assert [row.instance.addresses[0].port for row in rows] == [1, 2]


def test_of_this_host_nothing_is_kept_so() -> None:
    """It knows what runs here."""
    lately = Lately("host1")
    assert lately.admit("shop", (instance(HOST1, 9000),), (), 0) == ()
    assert not lately


def test_nothing_ends_while_the_catalog_is_not_in_its_right_mind() -> None:
    lately = Lately("host1", hold_s=300)
    rows = lately.admit("web", WEB[:1], (), 0)
    for now in (200, 400, 1000):
        assert left(lately, rows, now, is_sane=False) == {}
    assert left(lately, rows, 1299) == {}
    assert left(lately, rows, 1300) == {"web": {}}


def test_what_vanished_with_its_host_is_an_alarm_and_what_was_deregistered_there_is_none() -> None:
    lately = Lately("host1")
    rows = {"web": lately.admit("web", WEB, (), 0)}
    assert list(lately.alarms(rows, ("host1", "host2", "host3"))) == []
    (alarm,) = lately.alarms(rows, ("host1", "host3"))
    assert alarm.startswith("web: its instances on host2 vanished with the host")
