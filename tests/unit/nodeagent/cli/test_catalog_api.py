"""The catalog asked by a command."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.cli import catalog_api
from nodeagent.cli.catalog_api import Client, find_token, open_host, open_operator, segment
from nodeagent.config import CatalogTable, Config
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable
from tests.support.loop import run
from tests.support.mesh import config
from tests.support.scripted_catalog import ScriptedCatalog
from tests.support.stranger import open_to_all, stranger

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
    environ["CONSUL_HTTP_TOKEN"] = "environ"
    assert find_token(settings(own), None, environ, operator) == "environ"
    environ["CONSUL_HTTP_TOKEN_FILE"] = str(given)
    assert find_token(settings(own), None, environ, operator) == "given"
    assert find_token(settings(own), operator, environ, operator) == "operator"


def test_a_host_without_a_token_of_its_own_still_has_its_operators(tmp_path) -> None:
    operator = tmp_path / "operator.token"
    operator.write_text("operator\n")
    made = config()
    without = replace(made, catalog=replace(made.catalog, token_file=""))
    assert find_token(without, None, {}, operator) == "operator"
    assert find_token(without, None, {}, tmp_path / "none") == ""


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


def test_whose_token_was_refused_is_told(tmp_path) -> None:
    """A host's own speaks where none is named: an operator's is there already, perhaps."""

    def script(_: web.Request) -> web.Response:
        return web.Response(status=403)

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            peer.scripts["/v1/config"] = script
            for is_own, cure in ((True, "This host's own was sent"), (False, "An operator's token is needed: it goes into")):
                client = Client(CatalogTable(peer.address), CANARY, is_own=is_own)
                with pytest.raises(CatalogError, match=cure):
                    await asyncio.to_thread(client.ask, "PUT", "/v1/config", {})

    run(scene)


def test_nobody_there_names_the_address() -> None:
    with pytest.raises(CatalogUnreachable, match=r"127.0.0.1:1: nobody listens there"):
        Client(CatalogTable("http://127.0.0.1:1"), "").ask("GET", "/v1/config")


def test_somebody_who_says_nothing_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr("nodeagent.cli.catalog_api._ANSWER_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(CatalogTimeout, match=f"{address}: no answer in time"):
            Client(CatalogTable(address), "").ask("GET", "/v1/config")


def test_a_long_wait_says_for_what(monkeypatch, capsys) -> None:
    """Each time it is asked; a quick answer, or quick refusal, says nothing."""
    monkeypatch.setattr("nodeagent.cli.catalog_api._ANSWER_S", 0.3)
    monkeypatch.setattr(limits, "LAB_SAY_S", 0.01)
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        address = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        with pytest.raises(CatalogTimeout):
            Client(CatalogTable(address), "").ask("GET", "/v1/config")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"  · still waiting: the catalog at {address}\n")


def test_a_ca_file_without_a_certificate_is_named(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(CatalogError, match=r"ca.pem"):
        Client(CatalogTable("https://127.0.0.1:1", ca_file=str(path)), "").ask("GET", "/v1/config")


def test_names_are_quoted_in_paths() -> None:
    assert segment("a/b") == "a%2Fb"


def test_a_host_without_a_token_file_sends_none(tmp_path) -> None:
    """A catalog that asks for none, on loopback: `token_file = ""` names no directory."""
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\ntoken_file = ""\n')
    assert repr(open_host(path, None)) == "Client('http://127.0.0.1:1')"


@pytest.mark.parametrize("open_", [open_host, open_operator])
def test_a_token_of_another_catalog_is_not_sent_to_this_one(tmp_path, monkeypatch, capsys, open_) -> None:
    """A shell may be somebody's who works with another Consul, too."""
    path, own, seen = tmp_path / "nodeagent.toml", tmp_path / "node.token", []
    own.write_text("own")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", CANARY)
    monkeypatch.setenv("CONSUL_NAMESPACE", "team")

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            path.write_text(f'[host]\nname = "a"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "{peer.address}"\ntoken_file = "{own}"\n')
            peer.scripts["/v1/config"] = lambda request: seen.append(request.headers.get("X-Consul-Token"))
            for address in ("", peer.address, "https://consul.example:8501"):
                monkeypatch.setenv("CONSUL_HTTP_ADDR", address)
                await asyncio.to_thread(open_(path, None).ask, "PUT", "/v1/config", {})

    run(scene)
    assert (seen[:2], CANARY in seen[2:]) == ([CANARY, CANARY], False)
    said = capsys.readouterr().err
    assert "the environment's CONSUL_NAMESPACE cannot be followed" in said
    assert said.count("the environment's token is not sent") == 1


def test_where_the_role_left_a_way_for_operators_it_is_named(tmp_path, monkeypatch) -> None:
    """On the catalog's host, and not to who goes it already; elsewhere, where a token comes from."""
    operator = tmp_path / "operator.toml"
    monkeypatch.setattr(catalog_api, "OPERATOR_CONFIG", operator)

    def said(*, is_own: bool, config_path: Path) -> str:
        return Client(CatalogTable("https://c:1"), CANARY, is_own=is_own, config_path=config_path)._cure("the catalog answered 403 to x")

    here = tmp_path / "nodeagent.toml"
    for is_own in (False, True):
        assert "nodeagent catalog token create --management" in said(is_own=is_own, config_path=here)
        operator.touch()
        assert said(is_own=is_own, config_path=here).endswith(f"on this host, the catalog's: sudo, and --config {operator}")
        assert str(operator) not in said(is_own=is_own, config_path=operator)
        operator.unlink()


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/v1/agent/maintenance", 'It takes node "host1" { policy = "write" }, by this token'),
        ("/v1/agent/service/register", 'It takes service "NAME" { policy = "write" } of what is registered'),
        ("/v1/config", "It takes an operator's rights (docs/policy.md has the rules)"),
    ],
)
def test_what_consul_refuses_names_its_rule(path: str, rule: str) -> None:
    """The embedded catalog's management token would be no cure."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            peer.scripts[path] = lambda _: web.Response(status=403, text="Permission denied")
            with pytest.raises(CatalogError) as caught:
                await asyncio.to_thread(Client(CatalogTable(peer.address), CANARY).ask, "PUT", path, {}, node="host1")
            assert rule in str(caught.value)
            assert "management" not in str(caught.value)

    run(scene)


def test_tokens_in_a_closed_directory_are_as_if_they_were_not_there() -> None:
    """To whoever is not root: the catalog is asked without one, and its refusal tells to try sudo."""
    with open_to_all() as place:
        closed, config_file = place / "closed", place / "nodeagent.toml"
        closed.mkdir(0o700)
        config_file.write_text(f'[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\ntoken_file = "{closed}/node.token"\n')
        for asked in (("intention", "list"), ("service", "list"), ("drain",)):
            done = stranger(*asked, "--config", str(config_file))
            assert (done.returncode, done.stderr) == (3, "Error: http://127.0.0.1:1: nobody listens there; is the catalog running?\n")
