"""`nodeagent intention` with a Consul 1.8 whose KV store has an entry of the destination."""

import json

import pytest

from nodeagent.catalog.kept_intentions import PREFIX
from nodeagent.cli.intention import change, read_intentions, with_source, without_source
from nodeagent.cli.kept_intentions import change_kept
from nodeagent.cli.legacy_intentions import fetch_all
from nodeagent.errors import CatalogError
from nodeagent.model.intention import Intention
from tests.support.shelf import OF_1_8, Shelf

ROW = {"SourceName": "api", "DestinationName": "web", "Action": "allow"}


def shelf_with(said: object) -> Shelf:
    shelf = Shelf(kinds=OF_1_8)
    shelf.rows = [ROW]
    shelf.values[f"{PREFIX}web"] = json.dumps(said).encode(), 11
    return shelf


def shop() -> list:
    return [{"Name": "shop", "Action": "allow"}]


def test_the_entry_is_in_force_and_the_row_is_not() -> None:
    found = fetch_all(shelf_with({"Sources": shop()}))
    assert [f"{row.source} {row.action}" for row in found.rows] == ["shop allow"]
    assert [f"{row.source} {row.action}" for row in found.shadowed] == ["api allow"]


def test_without_an_entry_rows_are_in_force() -> None:
    shelf = Shelf(kinds=OF_1_8)
    shelf.rows = [ROW]
    assert [str(row.source) for row in read_intentions(shelf)] == ["api"]
    assert change_kept(shelf, "web", lambda _: pytest.fail("there is nothing to change")) is None


def test_the_entry_is_changed_where_there_is_one() -> None:
    """A row that nobody looks at would be a deny that is none."""
    shelf = shelf_with({"Sources": shop()})
    change(shelf, "web", lambda entry: with_source(entry, Intention("cart", "web", "deny")))
    assert sorted(f"{row.source} {row.action}" for row in read_intentions(shelf)) == ["cart deny", "shop allow"]
    assert shelf.rows == [ROW]


def test_the_last_source_takes_the_entry_with_it() -> None:
    shelf = shelf_with({"Sources": shop()})
    shelf.rows = [ROW | {"Action": "deny"}]
    change(shelf, "web", lambda entry: without_source(entry, "shop", "web"))
    assert [f"{row.source} {row.action}" for row in read_intentions(shelf)] == ["api deny"]


def test_the_last_source_does_not_make_way_for_rows_that_allow() -> None:
    """Who takes an intention away would let others in, and see it nowhere."""
    shelf = shelf_with({"Sources": shop()})
    with pytest.raises(CatalogError, match=r"in force again: api -> web \(allow\).*nodeagent policy delete service-intentions web"):
        change(shelf, "web", lambda entry: without_source(entry, "shop", "web"))
    assert [row.source for row in read_intentions(shelf)] == ["shop"]


def test_who_was_faster_is_not_written_over() -> None:
    shelf = shelf_with({"Sources": shop()})

    def faster(_method: str, _path: str) -> None:
        shelf.before = lambda _m, _p: None
        shelf.values[f"{PREFIX}web"] = json.dumps({"Sources": [{"Name": "till", "Action": "deny"}]}).encode(), 50

    shelf.before = faster
    change(shelf, "web", lambda entry: with_source(entry, Intention("cart", "web", "deny")))
    assert sorted(row.source for row in read_intentions(shelf)) == ["cart", "till"]


def test_an_entry_that_is_not_understood_is_left_to_its_writer() -> None:
    shelf = shelf_with({"Sources": shop(), "Quota": 7})
    with pytest.raises(CatalogError, match="not understood, and denies"):
        change(shelf, "web", lambda entry: with_source(entry, Intention("cart", "web", "deny")))
    assert [f"{row.source} {row.action}" for row in read_intentions(shelf)] == ["* deny"]
