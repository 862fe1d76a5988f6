"""Rows as Consul 1.8.7 gives them; those of newer ones as its documentation has them."""

import json

import pytest

from nodeagent import limits
from nodeagent.catalog.legacy_intentions import is_unknown_kind, parse_legacy_intentions, parse_match
from nodeagent.errors import CatalogError

SHOP = {
    "ID": "46181af4-02f4-b5e1-f6cc-312ccec88fe5", "Description": "", "SourceNS": "default", "SourceName": "shop",
    "DestinationNS": "default", "DestinationName": "web", "SourceType": "consul", "Action": "allow", "DefaultAddr": "",
    "DefaultPort": 0, "Meta": {}, "Precedence": 9, "CreatedAt": "2026-11-27T06:28:48.525030616Z",
    "UpdatedAt": "2026-11-27T06:28:48.525030616Z", "Hash": "9Ja7YV0nKYgT", "CreateIndex": 13, "ModifyIndex": 13,
}  # fmt: skip


def parsed(*rows: dict) -> list[str]:
    return [f"{row.source} -> {row.destination} {row.action}" for row in parse_legacy_intentions(json.dumps(rows).encode())]


def test_a_row_is_an_intention() -> None:
    deny = SHOP | {"SourceName": "*", "Action": "deny"}
    assert parsed(SHOP, deny) == ["* -> web deny", "shop -> web allow"]
    assert parse_legacy_intentions(b"[]") == parse_legacy_intentions(b"null") == ()


@pytest.mark.parametrize(
    "other",
    [
        {"SourceNS": "team"}, {"DestinationNS": "team"}, {"SourcePartition": "p"}, {"DestinationPartition": "p"}, {"SourcePeer": "east"},
        {"SourceSamenessGroup": "all"},
    ],
)  # fmt: skip
def test_rows_of_other_meshes_are_left_out(other: dict) -> None:
    """`team/web` is another service than `web`."""
    assert parsed(SHOP | other) == []


def test_what_is_said_of_every_namespace_is_said_of_ours() -> None:
    """A deny among it must not be lost."""
    assert parsed(SHOP | {"SourceNS": "*", "SourceName": "*", "Action": "deny"}) == ["* -> web deny"]
    assert parsed(SHOP | {"DestinationNS": "*", "DestinationName": "*"}) == ["shop -> * allow"]


def test_rules_for_requests_are_a_deny_for_connections() -> None:
    """Newer Consul shows its entries as such rows, too."""
    rules = [{"Action": "allow", "HTTP": {"PathPrefix": "/v1"}}]
    (row,) = parse_legacy_intentions(json.dumps([SHOP | {"Action": "", "Permissions": rules}]).encode())
    assert (row.action, row.word) == ("deny", "by request")
    (row,) = parse_legacy_intentions(json.dumps([SHOP | {"Action": "", "Permissions": [{"Action": "allow"}]}]).encode())
    assert (row.word, "not understood" in row.note) == ("deny", True)


def test_what_an_entry_asks_a_token_for_is_a_deny() -> None:
    """Newer Consul shows at each row what its entry asks of all sources."""
    token = {"JWT": {"Providers": [{"Name": "okta"}]}}
    (row,) = parse_match(json.dumps({"web": [SHOP | token]}).encode())
    assert (row.word, row.note) == ("deny", "shop -> web: a JWT cannot be checked yet: it counts as deny")
    rules = [{"Action": "allow", "HTTP": {"PathPrefix": "/v1"}}]
    (row,) = parse_match(json.dumps({"web": [SHOP | token | {"Action": "", "Permissions": rules}]}).encode())
    assert (row.word, "JWT" in row.note) == ("deny", True)


@pytest.mark.parametrize("change", [{"Action": "maybe"}, {"Action": ""}, {"Action": 7}])
def test_garbage_names_its_place(change: dict) -> None:
    with pytest.raises(CatalogError, match=r"/v1/connect/intentions: \$\[0\]"):
        parsed(SHOP | change)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 300])
def test_what_no_service_can_be_called_keeps_no_other_s_news_away(name: str) -> None:
    """Consul takes such rows of whoever may write the intentions of one service."""
    assert parsed(SHOP, SHOP | {"SourceName": name}, SHOP | {"DestinationName": name}) == ["shop -> web allow"]


def test_a_destination_is_meant_in_any_case() -> None:
    """As Consul finds it where it is asked for one: a deny of `Web` is one of `web`. A source it compares as it stands."""
    row = SHOP | {"SourceName": "Cart", "DestinationName": "Web", "Action": "deny"}
    assert parsed(row) == ["Cart -> web deny"]
    (matched,) = parse_match(json.dumps({"web": [row]}).encode())
    assert matched.destination == "web"


def test_no_more_rows_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_INTENTIONS", 2)
    with pytest.raises(CatalogError, match="at most 2"):
        parsed(SHOP, SHOP, SHOP)


def test_a_kind_that_is_not_kept_is_told_from_a_broken_server() -> None:
    assert is_unknown_kind("the catalog answered 500 to /v1/config/service-intentions: invalid config entry kind: service-intentions")
    assert not is_unknown_kind("the catalog answered 500 to /v1/config/service-intentions: No cluster leader")


def test_a_match_has_the_rows_of_one_end() -> None:
    body = json.dumps({"web": [SHOP, SHOP | {"SourceName": "*", "DestinationName": "*", "Action": "deny"}]}).encode()
    assert [f"{row.source} -> {row.destination} {row.action}" for row in parse_match(body)] == ["* -> * deny", "shop -> web allow"]
    assert parse_match(b'{"web": null}') == parse_match(b"null") == ()
    with pytest.raises(CatalogError, match="intentions/match"):
        parse_match(b"[]")
