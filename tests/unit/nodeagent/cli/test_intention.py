"""Intentions as they are written, read and decided."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.catalog.policy.entries import Key
from nodeagent.cli import intention as module
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.intention import (
    change,
    doubts,
    in_force,
    intention,
    read_intentions,
    read_mesh,
    verdict,
    with_source,
    without_source,
)
from nodeagent.cli.policy_store import PolicyStore
from nodeagent.config import CatalogTable
from nodeagent.errors import CatalogError, NotInCatalog
from nodeagent.model.intention import Intention
from tests.support.by_request import by_request
from tests.support.mesh import config, mesh
from tests.support.shelf import Shelf

SHOP = Intention("shop", "web", "allow")
ENTRY = {
    "Kind": "service-intentions", "Name": "web", "Meta": {"owner": "ops"}, "ModifyIndex": 7, "CreateIndex": 3,
    "Sources": [{"Name": "cart", "Action": "deny", "Precedence": 9}],
}  # fmt: skip


class Ledger(Client):
    """A catalog in a variable; each answer to a write is taken from `verdicts`."""

    def __init__(self, entry: dict | None, *verdicts: bool) -> None:
        super().__init__(CatalogTable("http://127.0.0.1:1"), "")
        self.entry = entry
        self.verdicts = list(verdicts)
        self.calls: list[tuple[str, str, object, dict]] = []

    def ask(self, method: str, path: str, body: object = None, **query: str) -> object:
        self.calls.append((method, path, body, query))
        if method == "GET":
            if self.entry is None:
                raise NotInCatalog(path)
            return self.entry if path.endswith("/web") else [self.entry]
        return self.verdicts.pop(0)


def test_a_new_entry_has_its_kind_and_the_one_source() -> None:
    assert with_source(None, SHOP) == {
        "Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}],
    }  # fmt: skip


def test_other_sources_and_fields_stay_as_they_were() -> None:
    changed = with_source(ENTRY, SHOP)
    assert changed["Meta"] == {"owner": "ops"}
    assert changed["Sources"] == [ENTRY["Sources"][0], {"Name": "shop", "Action": "allow"}]
    assert "ModifyIndex" not in changed


def test_a_source_that_is_there_is_replaced() -> None:
    changed = with_source(ENTRY, Intention("cart", "web", "allow"))
    assert changed["Sources"] == [{"Name": "cart", "Action": "allow", "Precedence": 9}]


def test_the_last_source_takes_the_entry_with_it() -> None:
    assert without_source(ENTRY, "cart", "web") is None
    two = with_source(ENTRY, SHOP)
    assert [source["Name"] for source in without_source(two, "cart", "web")["Sources"]] == ["shop"]


@pytest.mark.parametrize("entry", [None, ENTRY])
def test_deleting_what_is_not_there_is_an_error(entry: dict | None) -> None:
    with pytest.raises(CatalogError, match="no intention shop -> web"):
        without_source(entry, "shop", "web")


def test_a_write_carries_the_index_that_was_read_and_is_tried_again() -> None:
    ledger = Ledger(ENTRY, False, True)
    change(ledger, "web", lambda entry: with_source(entry, SHOP))
    writes = [call for call in ledger.calls if call[0] == "PUT"]
    assert [call[3] for call in writes] == [{"cas": "7"}, {"cas": "7"}]


def test_a_first_write_must_be_the_first() -> None:
    ledger = Ledger(None, True)
    change(ledger, "web", lambda entry: with_source(entry, SHOP))
    assert ledger.calls[-1][3] == {"cas": "0"}


def test_an_entry_without_sources_is_deleted() -> None:
    ledger = Ledger(ENTRY, True)
    change(ledger, "web", lambda entry: without_source(entry, "cart", "web"))
    assert ledger.calls[-1][:2] == ("DELETE", "/v1/config/service-intentions/web")


def test_writing_against_others_is_given_up_with_a_word() -> None:
    with pytest.raises(CatalogError, match="try again"):
        change(Ledger(ENTRY, *[False] * 5), "web", lambda entry: with_source(entry, SHOP))


def test_intentions_are_read_in_the_order_of_precedence() -> None:
    entry = with_source(with_source(ENTRY, Intention("*", "web", "deny")), SHOP)
    assert [str(row) for row in read_intentions(Ledger(entry))] == [
        "cart -> web (deny)", "shop -> web (allow)", "* -> web (deny)",
    ]  # fmt: skip


def test_the_verdict_is_the_agents_own() -> None:
    snapshot = mesh("* -> web allow", "cart -> web deny")
    assert verdict(snapshot, "shop", "web") == (True, "allowed: shop -> web by the intention * -> web (allow)")
    assert verdict(snapshot, "cart", "web")[0] is False
    assert "default deny" in verdict(snapshot, "shop", "legacy")[1]


def test_policy_answers_for_services_that_are_not_there_yet() -> None:
    """Intentions may come first."""
    assert "default deny" in verdict(mesh("* -> web allow"), "pa", "pb")[1]
    assert verdict(mesh("* -> * allow", "pc -> * deny"), "pa", "pb") == (True, "allowed: pa -> pb by the intention * -> * (allow)")
    assert verdict(mesh("* -> * allow", "pc -> * deny"), "pc", "pb")[0] is False


@pytest.mark.parametrize("pair", [("*", "web"), ("shop", "*")])
def test_a_check_is_of_one_pair(pair: tuple[str, str]) -> None:
    """Before anybody is asked."""
    told = CliRunner().invoke(intention, ["check", *pair])
    assert (told.exit_code, "one pair" in told.output) == (2, True)


@pytest.mark.parametrize(
    ("known", "source", "destination", "expected"),
    [
        (["web"], "shop", "web", []),
        (["web", "shops"], "shop", "web", ["the catalog knows no service shop; did you mean shops?"]),
        (["db"], "shop", "web", ["the catalog knows no service web"]),
        (["web1"], "*", "web", ["the catalog knows no service web; did you mean web1?"]),
        ([], "*", "*", []),
        ([], "web", "web", ["the catalog knows no service web"]),
    ],
)
def test_a_caller_is_doubted_only_where_a_name_is_near(
    known: list[str], source: str, destination: str, expected: list[str]
) -> None:
    """A workload that only calls is in no catalog; a warning at each of them would not be read any more."""
    assert doubts(known, source, destination) == expected


RULED = {"Sources": [{"Name": "shop", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}], "Precedence": 9}]}


def test_rules_for_requests_are_replaced_only_when_that_is_asked_for() -> None:
    with pytest.raises(CatalogError, match=r"shop -> web has rules for HTTP requests: they are lost with --replace"):
        with_source(RULED, SHOP)
    assert with_source(RULED, SHOP, replace=True)["Sources"] == [{"Name": "shop", "Action": "allow", "Precedence": 9}]
    ledger = Ledger(RULED, True)
    with pytest.raises(CatalogError, match="--replace"):
        change(ledger, "web", lambda entry: with_source(entry, SHOP))
    assert [call[0] for call in ledger.calls] == ["GET"]


def test_a_source_keeps_what_else_is_said_of_it_and_that_of_another_peer_is_another() -> None:
    foreign = [{"Name": "shop", "Peer": "east", "Action": "deny"}, {"Name": "shop", "Namespace": "eu", "Action": "deny"}]
    entry = {"Sources": [*foreign, {"Name": "shop", "Action": "deny", "Description": "until May"}]}
    assert with_source(entry, SHOP)["Sources"] == [
        *foreign, {"Name": "shop", "Action": "allow", "Description": "until May"},
    ]  # fmt: skip
    left = without_source(entry, "shop", "web")
    assert left is not None
    assert left["Sources"] == foreign


@pytest.mark.parametrize(("name", "cure"), [("Web", "call it web"), ("sh op", "lower-case letters")])
def test_a_refused_name_comes_with_a_cure(name: str, cure: str) -> None:
    result = CliRunner().invoke(intention, ["allow", name, "web"])
    assert result.exit_code == 2
    assert cure in result.output.replace("\n", " ")


def test_a_name_that_cannot_be_is_a_usage_error() -> None:
    result = CliRunner().invoke(intention, ["allow", "sh op", "web"])
    assert result.exit_code == 2
    assert "cannot name a service" in result.output


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("*", "*"), ["  shop -> web (allow)", "  * -> db (deny)", "  cart -> * (allow)", "  any other: deny"]),
        (("*", "db"), ["  * -> db (deny)", "  cart -> * (allow)"]),
        (("shop", "*"), ["  shop -> web (allow)", "  * -> db (deny)", "  any other: deny"]),
    ],
)
def test_after_a_change_for_many_all_that_decide_among_them_are_shown(pair: tuple[str, str], said: list[str]) -> None:
    rows = [Intention("shop", "web", "allow"), Intention("*", "db", "deny"), Intention("cart", "*", "allow")]
    assert in_force(rows, *pair)[1:] == said


def test_where_no_intention_speaks_of_a_pair_only_that_is_said() -> None:
    rows = [Intention("shop", "web", "allow")]
    assert in_force(rows, "*", "db") == ["in force within a second: no intention speaks of * -> db: deny"]


def test_a_check_is_told_to_programs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_operator", lambda *_: Shelf())
    monkeypatch.setattr(module, "read_mesh", lambda *_: mesh())
    monkeypatch.setattr(module, "_warn_unknown", lambda *_: None)
    for pair in (("shop", "web"), ("nobody", "web")):
        told = CliRunner().invoke(intention, ["check", *pair, "-o", "json"])
        is_allowed, why = verdict(mesh(), *pair)
        assert json.loads(told.stdout) == {"apiVersion": "nodeagent/v1", "source": pair[0], "destination": "web", "allowed": is_allowed, "why": why}
        assert told.exit_code == (0 if is_allowed else 1)


def test_a_change_is_in_the_trail_of_its_entry(monkeypatch) -> None:
    """`nodeagent policy history` tells who it was."""
    shelf = Shelf()
    monkeypatch.setattr(module, "open_operator", lambda *_: shelf)
    monkeypatch.setattr(module, "_show_in_force", lambda *_: None)
    for arguments in (["allow", "shop", "web"], ["deny", "shop", "web"], ["delete", "shop", "web"]):
        told = CliRunner().invoke(intention, arguments)
        assert (told.exit_code, told.stderr) == (0, "")
    trail, _ = PolicyStore(shelf).read_trail(Key("service-intentions", "web"))
    assert [change.act for change in trail.changes] == ["created", "changed", "deleted"]


def test_a_token_that_may_not_read_is_told_neither_denied_nor_nothing(monkeypatch) -> None:
    shelf = Shelf()
    shelf.hidden = ("intention", "service")
    monkeypatch.setattr(module, "open_operator", lambda *_: shelf)
    for words, what in ((["check", "shop", "web"], "web"), (["list"], "every service")):
        told = CliRunner().invoke(intention, words)
        assert (told.exit_code, told.stdout) == (1, "")
        assert f"this token may not read the intentions of {what}" in str(told.exception)


@pytest.mark.parametrize(("destination", "is_odd"), [("consul", True), ("nodeagent", True), ("web", False)])
def test_what_is_no_service_of_the_mesh_is_told(monkeypatch, destination: str, is_odd: object) -> None:
    """The catalog has them, so that no typing error is seen."""
    monkeypatch.setattr(module, "open_operator", lambda *_: Shelf(services=("web", "consul", "nodeagent")))
    monkeypatch.setattr(module, "_show_in_force", lambda *_: None)
    told = CliRunner().invoke(intention, ["allow", "consul", destination])
    assert (told.exit_code, "of no service of the mesh" in told.stderr) == (0, is_odd)


def test_a_service_that_the_token_may_not_see_is_not_called_unknown(monkeypatch, capsys) -> None:
    shelf = Shelf(services=())
    monkeypatch.setattr(module, "open_operator", lambda *_: shelf)
    module._warn_unknown(shelf, "shop", "web")
    assert "knows no service web" in capsys.readouterr().err
    shelf.hidden = ("service",)
    module._warn_unknown(shelf, "shop", "web")
    assert capsys.readouterr().err == ""


def test_what_is_decided_by_request_is_told_as_such() -> None:
    """Of a service that speaks something else it is a deny, so its protocol is asked for."""
    assert verdict(by_request("shop -> web"), "shop", "web") == (
        True, "allowed: shop -> web by the intention shop -> web (by request): each request by the first permission that matches, else it is denied",
    )  # fmt: skip
    is_allowed, why = verdict(by_request("shop -> web", protocol="grpc"), "shop", "web")
    assert (False, True) == (is_allowed, "web speaks grpc" in why)


@pytest.mark.parametrize(("protocols", "default"), [([{"Name": "web", "Protocol": "http"}], []), ([], [{"Name": "global", "Config": {"protocol": "http"}}])])
def test_protocols_are_read_where_an_intention_is_about_requests(monkeypatch, protocols: list, default: list) -> None:
    """Else a catalog is not asked for them."""
    permission = {"Action": "allow", "HTTP": {"PathPrefix": "/v1"}}
    entry = {"Name": "web", "Sources": [{"Name": "shop", "Permissions": [permission]}]}
    answers = {"service-intentions": [entry], "service-defaults": protocols, "proxy-defaults": default, "services": {"web": []}}
    client = Ledger(None)
    monkeypatch.setattr(client, "ask", lambda _, path: answers[path.rpartition("/")[2]])
    monkeypatch.setattr(module, "load_config", lambda _: config())
    assert verdict(read_mesh(client, Path("/none")), "shop", "web")[0]
    assert [("shop", "by request")] == [(row.source, row.word) for row in read_intentions(client)]
