"""What a token may not read is told where little is shown."""

import pytest

from nodeagent.cli import rights
from nodeagent.cli.catalog_api import Client
from nodeagent.config import CatalogTable
from nodeagent.errors import CatalogError, CatalogUnreachable

NEEDED = (rights.to_intentions(), rights.to_keys("nodeagent/config/"), rights.SERVICES, rights.to_node("host1"))


class Teller(Client):
    """Consul 1.8.7, of which every right is asked: `answer` is given, or raised."""

    def __init__(self, answer: object) -> None:
        super().__init__(CatalogTable("http://127.0.0.1:1"), "")
        self.answer = answer

    def ask(self, method: str, path: str, body: object = None, **query: str) -> object:
        assert (method, path, query) == ("POST", "/v1/internal/acl/authorize", {})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(body) if callable(self.answer) else self.answer


def refuses(*resources: str) -> Teller:
    def answer(questions: list[dict[str, str]]) -> list[dict[str, object]]:
        assert {each["Access"] for each in questions} == {"read"}
        return [{**each, "Allow": each["Resource"] not in resources} for each in questions]

    return Teller(answer)


def test_each_right_that_is_missing_is_told_with_the_rule_that_gives_it() -> None:
    assert rights.lacking(refuses("key", "node"), NEEDED) == [NEEDED[1], NEEDED[3]]
    assert str(NEEDED[0]) == 'this token may not read the intentions of every service (give it service_prefix "" { policy = "read" intentions = "read" })'
    assert str(rights.to_intentions("web")) == 'this token may not read the intentions of web (give it service "web" { policy = "read" intentions = "read" })'
    assert str(NEEDED[1]) == 'this token may not read nodeagent/config/ in the KV store (give it key_prefix "nodeagent/config/" { policy = "read" })'


def test_nothing_that_proves_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CatalogError, match=r"that nothing is shown does not mean that there is nothing: this token may not read the intentions of every service"):
        rights.check_shown(refuses("intention"), NEEDED, has_rows=False)
    rights.check_shown(refuses("intention"), NEEDED, has_rows=True)
    assert "warning: there may be more than is shown: this token may not read the intentions" in capsys.readouterr().err


def test_with_all_rights_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for has_rows in (True, False):
        rights.check_shown(refuses(), NEEDED, has_rows=has_rows)
    rights.check_proven(refuses(), NEEDED)
    assert capsys.readouterr().err == ""


def test_what_is_built_upon_must_be_proven() -> None:
    with pytest.raises(CatalogError, match="what is shown need not be all: this token may not read the node host1"):
        rights.check_proven(refuses("node"), NEEDED)


@pytest.mark.parametrize("answer", [CatalogError("the catalog answered 501"), CatalogError("the catalog answered 401"), None, 5, ["x"], [{}], {"Allow": False}])
def test_where_it_is_not_told_nothing_is_hidden(answer: object) -> None:
    """The embedded catalog refuses instead; a Consul without ACLs shows all."""
    assert rights.lacking(Teller(answer), NEEDED) == []


def test_a_catalog_that_went_away_is_told_as_such() -> None:
    with pytest.raises(CatalogUnreachable):
        rights.lacking(Teller(CatalogUnreachable("nobody listens there")), NEEDED)
