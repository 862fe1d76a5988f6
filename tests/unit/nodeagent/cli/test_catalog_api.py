"""The catalog asked by a command."""

import asyncio
import json
import ssl

import pytest
from aiohttp import web
from msgspec.structs import replace

from nodeagent.cli.catalog_api import Client, NotThereError, explain, find_token, parse_answer, segment
from nodeagent.config import CatalogTable, Config
from nodeagent.errors import CatalogError
from tests.support.loop import run
from tests.support.mesh import config
from tests.support.scripted_catalog import ScriptedCatalog

CANARY = "canary-token-90be"


def settings(token_file: object) -> Config:
    made = config()
    return replace(made, catalog=replace(made.catalog, token_file=str(token_file)))


def test_the_token_comes_from_the_first_place_that_has_one(tmp_path) -> None:
    own, operator, given = (tmp_path / name for name in ("node.token", "operator.token", "given.token"))
    environ: dict[str, str] = {}
    assert find_token(settings(own), None, environ, operator) == ""
    own.write_text("own\n")
    assert find_token(settings(own), None, environ, operator) == "own"
    operator.write_text("operator\n")
    assert find_token(settings(own), None, environ, operator) == "operator"
    given.write_text("given\n")
    environ["CONSUL_HTTP_TOKEN_FILE"] = str(given)
    assert find_token(settings(own), None, environ, operator) == "given"
    environ["CONSUL_HTTP_TOKEN"] = "environ"
    assert find_token(settings(own), None, environ, operator) == "environ"
    assert find_token(settings(own), operator, environ, operator) == "operator"


def test_a_named_token_file_that_is_missing_is_an_error(tmp_path) -> None:
    with pytest.raises(CatalogError, match=r"missing.token"):
        find_token(settings(""), tmp_path / "missing.token", {}, tmp_path / "none")


def test_calls_send_token_query_and_json() -> None:
    seen = []

    def script(request: web.Request) -> None:
        seen.append((request.headers.get("X-Consul-Token"), request.query.get("cas")))

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            peer.scripts["/v1/config"] = script
            client = Client(CatalogTable(peer.address), CANARY)
            assert await asyncio.to_thread(client.ask, "PUT", "/v1/config", {"Kind": "x"}, cas="7") is True
            assert peer.written == [("/v1/config", {"Kind": "x"})]
            assert CANARY not in repr(client)

    run(scene)
    assert seen == [(CANARY, "7")]


def test_nobody_there_names_the_address() -> None:
    with pytest.raises(CatalogError, match=r"127.0.0.1:1: nobody listens there"):
        Client(CatalogTable("http://127.0.0.1:1"), "").ask("GET", "/v1/config")


def test_a_ca_file_without_a_certificate_is_named(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(CatalogError, match=r"ca.pem"):
        Client(CatalogTable("https://127.0.0.1:1", ca_file=str(path)), "").ask("GET", "/v1/config")


def test_refusals_say_what_the_catalog_said_and_how_to_go_on() -> None:
    with pytest.raises(CatalogError, match="403: not yours; give another token"):
        parse_answer(403, b"not yours", "/v1/config")
    with pytest.raises(NotThereError):
        parse_answer(404, b"", "/v1/config/x/y")
    with pytest.raises(CatalogError, match="not JSON"):
        parse_answer(200, b"<html>", "/v1/config")
    assert parse_answer(200, b"", "/v1/x") is None
    assert parse_answer(200, json.dumps([1]).encode(), "/v1/x") == [1]


def test_failures_to_connect_name_the_cure() -> None:
    table = CatalogTable("https://c:1", ca_file="/ca.pem")
    wrong = ssl.SSLCertVerificationError("x")
    wrong.verify_message = "self-signed"
    assert "/ca.pem its CA?" in explain(wrong, table)
    assert "filtered" in explain(TimeoutError(), table)
    assert explain(OSError("odd"), table) == "odd"


def test_names_are_quoted_in_paths() -> None:
    assert segment("a/b") == "a%2Fb"
