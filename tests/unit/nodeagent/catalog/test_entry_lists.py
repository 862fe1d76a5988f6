"""Lists of config entries."""

import base64
import json

import pytest

from nodeagent import limits
from nodeagent.catalog import entry_lists
from nodeagent.catalog.entry_lists import EntryList, kept_entries_path, parse_entries, parse_kept_entries
from nodeagent.errors import CatalogError
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.values import Duration

KIND, BUDGET = "service-resolver", "retry-budget"
WEB = {"Kind": KIND, "Name": "web", "ConnectTimeout": "2s", "CreateIndex": 3, "ModifyIndex": 7}
ODD = {"Kind": KIND, "Name": "db", "Unheard": 1}


def listed(*entries: object, before: EntryList = entry_lists.NO_ENTRIES) -> EntryList:
    return parse_entries(KIND, json.dumps(entries).encode(), before)


def kept(before: EntryList = entry_lists.NO_ENTRIES, **values: object) -> EntryList:
    rows = [{"Key": f"nodeagent/config/{BUDGET}/{name}", "Value": value if isinstance(value, str) else encoded(value)} for name, value in values.items()]
    return parse_kept_entries(BUDGET, json.dumps(rows).encode(), before)


def encoded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_an_entry_is_read_as_the_catalog_writes_it() -> None:
    """With its marks, which say nothing."""
    assert {"web": ServiceResolver(kind="service-resolver", name="web", connect_timeout=Duration(2 * 10**9))} == listed(WEB).specs


def test_one_that_is_not_understood_keeps_no_other_away() -> None:
    """As of a newer Consul."""
    found = listed(ODD, WEB, {"Kind": KIND, "Name": "Odd name"}, {"Kind": KIND}, {**WEB, "Name": "else", "Namespace": "team"})
    assert (["web"], ["db"], {"web", "db"}) == ([*found.specs], [*found.unread], found.names)
    assert "Unheard" in found.unread["db"]


def test_consul_tells_no_name_of_the_mesh_entry() -> None:
    """There is one, and its kind says all."""
    body = json.dumps([{"Kind": "mesh", "TransparentProxy": {}, "CreateIndex": 3, "ModifyIndex": 7}]).encode()
    assert (["mesh"], {}) == ([*parse_entries("mesh", body).specs], parse_entries("mesh", body).unread)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[7]", b'["a"]', b"[[]]"])
def test_what_is_no_list_of_entries_is_refused(body: bytes) -> None:
    """What was known stays in force then."""
    with pytest.raises(CatalogError, match="/v1/config/service-resolver"):
        parse_entries(KIND, body)
    assert entry_lists.NO_ENTRIES == parse_entries(KIND, b"null")


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands; of the one that did the other is forgotten."""
    before, budgets = listed(WEB, ODD), kept(web={"Ratio": 0.1})
    monkeypatch.setattr(entry_lists, "_read", None)
    again = listed(ODD, WEB, before=before)
    assert again.specs["web"] is before.specs["web"]
    assert kept(budgets, web={"Ratio": 0.1}).specs["web"] is budgets.specs["web"]
    assert 1 == len(listed(WEB, before=before).texts)


def test_only_those_that_say_something_of_interest_are_read() -> None:
    body = json.dumps([WEB, {**WEB, "Name": "db", "ConnectTimeout": "3s"}]).encode()
    assert ["db"] == [*parse_entries(KIND, body, having=b'"3s"').specs]


def test_more_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_SERVICES", 1)
    with pytest.raises(CatalogError, match="2 rows; at most 1"):
        listed(WEB, ODD)


def test_in_the_kv_store_the_key_is_the_name() -> None:
    """Whatever the value calls itself; what is no entry is told by its name."""
    found = kept(web={"Kind": "mirror", "Name": "db", "Ratio": 0.1}, **{"*": {"ratio": 0.5}}, bad={"Ratio": 7}, worse="%%", **{"not a name": {}})
    assert {"web": RetryBudget(kind="retry-budget", name="web", ratio=0.1), "*": RetryBudget(kind="retry-budget", name="*", ratio=0.5)} == found.specs
    assert ["bad", "worse"] == [*found.unread]
    assert entry_lists.NO_ENTRIES == parse_kept_entries(BUDGET, b"null")
    assert "/v1/kv/nodeagent/config/retry-budget/?recurse=true" == kept_entries_path(BUDGET)


@pytest.mark.parametrize("text", ["bnVsbA==", "WzFd", "ew==", "gA=="])
def test_a_value_that_is_no_object_is_not_understood(text: str) -> None:
    """Nor is one that says nothing."""
    assert ["web"] == [*kept(web=text).unread]
