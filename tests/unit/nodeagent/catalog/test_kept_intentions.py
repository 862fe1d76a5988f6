"""Entries in the KV store in the place of rows."""

import base64
import json

import pytest

from nodeagent import limits
from nodeagent.catalog import kept_intentions
from nodeagent.catalog.kept_intentions import PREFIX, KeptIntentions, overlaid, parse_kept, shadowed
from nodeagent.catalog.state import IntentionRow
from nodeagent.errors import CatalogError

SHOP, CART = {"Name": "shop", "Action": "allow"}, {"Name": "cart", "Action": "deny"}


def value(name: str, said: object) -> dict[str, str]:
    """A row of the KV store."""
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return {"Key": f"{PREFIX}{name}", "Value": base64.b64encode(raw).decode()}


def kept(*values: dict) -> KeptIntentions:
    return parse_kept(json.dumps(values).encode())


def said(rows) -> list[str]:
    return [f"{row.source} -> {row.destination} {row.action}" for row in rows]


def test_an_entry_is_all_that_is_said_of_its_destination() -> None:
    rows = (IntentionRow("api", "web", "allow"), IntentionRow("api", "db", "allow"))
    found = kept(value("web", {"Sources": [SHOP, CART]}), value("*", {"Sources": [CART]}))
    assert said(overlaid(rows, found.rows)) == ["cart -> * deny", "api -> db allow", "cart -> web deny", "shop -> web allow"]


def test_the_key_is_the_name_whatever_the_body_says() -> None:
    found = kept(value("web", {"Kind": "mirror", "name": "db", "Sources": [SHOP]}))
    assert said(found.rows["web"]) == ["shop -> web allow"]


def test_rules_for_requests_are_read_here_too() -> None:
    """A Consul before 1.9 knows none of them."""
    rules = [{"Action": "allow", "HTTP": {"PathPrefix": "/v1"}}]
    (row,) = kept(value("web", {"Sources": [{"Name": "shop", "Permissions": rules}]})).rows["web"]
    assert ("deny", "by request") == (row.action, row.word)
    assert [IntentionRow("shop", "web", "deny")] == list(shadowed([IntentionRow("shop", "web", "deny")], {"web": (row,)}))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b"{}", {"Sources": []}, {"Sources": [{"Name": "shop"}]}, {"Sources": [SHOP], "Unheard": 1},
     {"Sources": [SHOP, SHOP]}, {"Sources": [{"Name": "shop", "Action": "maybe"}]}, {"Sources": [{**SHOP, "Namespace": "team"}]}, b"[" * 20_000],
)  # fmt: skip
def test_what_is_not_understood_denies_its_destination(body: object) -> None:
    """Also of a newer version: what it takes away must not be lost."""
    (row,) = kept(value("web", body)).rows["web"]
    assert said([row]) == ["* -> web deny"]
    assert "not understood" in row.note


def test_a_value_that_is_no_base64_denies_too() -> None:
    assert said(kept({"Key": f"{PREFIX}web", "Value": "%"}).rows["web"]) == ["* -> web deny"]
    assert said(kept({"Key": f"{PREFIX}web", "Value": None}).rows["web"]) == ["* -> web deny"]


def test_keys_that_are_no_destinations_are_left_out() -> None:
    assert not kept(value("", {}), value("a/b", {}), value("a b", {})).rows


def test_a_key_with_large_letters_denies_who_is_meant() -> None:
    """It is no service's name, and to pass over it would leave wider rows in force; beside the right key it says nothing."""
    (row,) = kept(value("Web", {"Sources": [SHOP]}), value("WEB", {})).rows["web"]
    assert said((row,)) == ["* -> web deny"]
    assert "service-intentions/Web is not understood, and denies: a service's name is in lower case" in row.note
    assert said(kept(value("Web", {}), value("web", {"Sources": [SHOP]})).rows["web"]) == ["shop -> web allow"]


def test_nothing_there_is_nothing() -> None:
    assert parse_kept(b"null").rows == {}
    with pytest.raises(CatalogError, match="nodeagent/config/service-intentions"):
        parse_kept(b'{"Key": 1}')


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(value("web", {"Sources": [SHOP]}))
    read = []
    monkeypatch.setattr(kept_intentions, "_rows", lambda name, _text: read.append(name) or ())
    body = json.dumps([value("web", {"Sources": [SHOP]}), value("db", {"Sources": [SHOP]})]).encode()
    assert parse_kept(body, before).rows["web"] == before.rows["web"]
    assert read == ["db"]


def test_no_more_sources_than_of_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_INTENTIONS", 1)
    with pytest.raises(CatalogError, match="at most 1"):
        kept(value("web", {"Sources": [SHOP]}), value("db", {"Sources": [SHOP]}))


def test_rows_that_say_otherwise_than_the_entry_are_shadowed() -> None:
    rows = tuple(IntentionRow(*each.split()) for each in ("api web allow", "cart web allow", "shop web allow", "api db allow"))
    found = kept(value("web", {"Sources": [SHOP, CART]}))
    assert said(shadowed(rows, found.rows)) == ["api -> web allow", "cart -> web allow"]
