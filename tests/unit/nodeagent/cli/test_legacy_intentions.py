"""The commands against a catalog that keeps rows, with the words of Consul 1.8.7."""

from contextlib import nullcontext

import pytest

from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.intention import change, read_intentions, with_source, without_source
from nodeagent.cli.legacy_intentions import fetch_all, fetch_rows
from nodeagent.config import CatalogTable
from nodeagent.errors import CatalogError, NotInCatalog
from nodeagent.model.action import Action
from nodeagent.model.intention import Intention
from tests.support.shelf import OF_1_8, Shelf

UNKNOWN = "the catalog answered 500 to GET /v1/config/service-intentions: invalid config entry kind: service-intentions"
ROWS = "/v1/connect/intentions"


class Rows(Client):
    """Consul 1.8.7 in a dict; `overtaking` happens before the next write."""

    def __init__(self, *pairs: str) -> None:
        super().__init__(CatalogTable("http://127.0.0.1:1"), "")
        self.rows: dict[str, dict] = {}
        self.overtaking = lambda: None
        for pair in pairs:
            source, destination, action = pair.split()
            self.make(source, destination, action)

    def make(self, source: str, destination: str, action: str, **more: object) -> None:
        row = {"SourceName": source, "DestinationName": destination, "Action": action, "SourceType": "consul", **more}
        self.rows[f"id{len(self.rows)}"] = {"SourceNS": "default", "DestinationNS": "default", "Precedence": 9} | row

    def shown(self) -> list[str]:
        return sorted(f"{row['SourceName']} {row['DestinationName']} {row['Action']}" for row in self.rows.values())

    def ask(self, method: str, path: str, body: object = None, **query: str) -> object:
        if path.startswith("/v1/config"):
            raise CatalogError(UNKNOWN)
        if path.startswith("/v1/kv/"):
            raise NotInCatalog(path)
        if method == "GET":
            return [{"ID": id_} | row for id_, row in self.rows.items()]
        overtaking, self.overtaking = self.overtaking, lambda: None
        overtaking()
        id_ = path.removeprefix(f"{ROWS}/")
        if method == "DELETE":
            if id_ not in self.rows:
                raise CatalogError(f"the catalog answered 500 to DELETE: Cannot delete non-existent intention: '{id_}'")
            return self.rows.pop(id_) is not None
        assert isinstance(body, dict)
        if method == "POST" and any(self.is_of(row, body) for row in self.rows.values()):
            raise CatalogError("the catalog answered 500 to POST /v1/connect/intentions: duplicate intention found: …")
        self.rows[id_ if method == "PUT" else f"id{len(self.rows)}"] = body
        return {"ID": id_}

    @staticmethod
    def is_of(row: dict, body: dict) -> bool:
        is_default = row.get("SourceNS", "default") == "default"
        return is_default and (row["SourceName"], row["DestinationName"]) == (body["SourceName"], body["DestinationName"])


def put(client: Client, source: str, destination: str, action: Action) -> None:
    change(client, destination, lambda entry: with_source(entry, Intention(source, destination, action)))


def test_an_intention_is_a_row() -> None:
    client = Rows("cart web deny", "shop db allow")
    put(client, "shop", "web", "allow")
    assert client.shown() == ["cart web deny", "shop db allow", "shop web allow"]
    assert [str(row) for row in read_intentions(client)] == [str(Intention(row.source, row.destination, row.action)) for row in sorted(
        fetch_rows(client), key=lambda row: (row.destination, row.source))]  # fmt: skip


def test_a_changed_action_keeps_the_rows_description_and_id() -> None:
    client = Rows()
    client.make("shop", "web", "allow", Description="why", Meta={"owner": "ops"})
    put(client, "shop", "web", "deny")
    (row,) = client.rows.values()
    assert (row["Action"], row["Description"], row["Meta"]) == ("deny", "why", {"owner": "ops"})


def test_the_same_again_writes_nothing() -> None:
    client = Rows("shop web allow")
    client.overtaking = lambda: pytest.fail("nothing is to be written")
    put(client, "shop", "web", "allow")


def test_one_pair_is_removed_and_the_others_stay() -> None:
    client = Rows("shop web allow", "cart web allow")
    change(client, "web", lambda entry: without_source(entry, "shop", "web"))
    assert client.shown() == ["cart web allow"]
    with pytest.raises(NotInCatalog, match="no intention shop -> web"):
        change(client, "web", lambda entry: without_source(entry, "shop", "web"))


def test_another_writer_in_between_is_noticed() -> None:
    """He made the row that we would make: it is changed then; he removed the one that we remove: so it is gone."""
    client = Rows()
    client.overtaking = lambda: client.make("shop", "web", "deny")
    put(client, "shop", "web", "allow")
    assert client.shown() == ["shop web allow"]
    client.overtaking = client.rows.clear
    with pytest.raises(NotInCatalog):
        change(client, "web", lambda entry: without_source(entry, "shop", "web"))


def test_rows_of_another_namespace_are_not_ours() -> None:
    client = Rows()
    client.make("shop", "web", "deny", SourceNS="team")
    put(client, "shop", "web", "allow")
    assert client.shown() == ["shop web allow", "shop web deny"]


def test_a_refusal_for_another_reason_is_told() -> None:
    client = Rows()

    def refuse() -> None:
        raise CatalogError("the catalog answered 403 to POST: Permission denied")

    client.overtaking = refuse
    with pytest.raises(CatalogError, match="Permission denied"):
        put(client, "shop", "web", "allow")


def test_rows_that_are_none_are_told() -> None:
    client = Rows()
    client.rows["id0"] = {"SourceName": 7}
    with pytest.raises(CatalogError, match="/v1/connect/intentions"):
        put(client, "shop", "web", "allow")


class Closed(Shelf):
    """As Consul 1.8 to a token without the right to keys: a list is as if nothing was there, and a key is refused."""

    def ask(self, method: str, path: str, body: object = None, **query: str) -> object:
        if path == KEPT_INTENTIONS:
            raise NotInCatalog(path)
        if path.startswith("/v1/kv/"):
            raise CatalogError(f"the catalog answered 403 to {method} {path}: Permission denied")
        return super().ask(method, path, body, **query)


@pytest.mark.parametrize(("shelf", "is_doubted"), [(Closed(kinds=OF_1_8), True), (Shelf(kinds=OF_1_8), False), (Closed(), False)])
def test_rows_are_not_taken_for_all_where_keys_may_not_be_read(shelf: Shelf, *, is_doubted: bool) -> None:
    """A check would say allowed where an entry denies. With a server that has entries the KV store says nothing."""
    shelf.rows = [{"SourceName": "api", "DestinationName": "web", "Action": "allow"}]
    found = fetch_all(shelf, ("web", "*"))
    assert ("may not read what the KV store says of web" in found.doubt) == is_doubted
    with pytest.raises(CatalogError, match="key_prefix") if is_doubted else nullcontext():
        fetch_rows(shelf, ("web", "*"))
    assert fetch_all(shelf).doubt == ""
