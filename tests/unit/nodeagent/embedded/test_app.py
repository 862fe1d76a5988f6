"""What every request goes through, over real HTTP on loopback."""

import asyncio
import dataclasses
import io
import json
import re

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from aiohttp.web import TCPSite

from nodeagent import limits
from nodeagent.embedded.app import build_app, build_runner, check_query, secret_of
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.embedded.routes import ROUTES, Route


def speak(desk, talk):
    """Runs `talk(ask)` against a server; `ask` gives (status, headers, text)."""

    async def run():
        async with TestServer(build_app(desk.server)) as server, ClientSession() as session:

            async def ask(method, path, data=None, token=desk.secret, **more):
                headers = {"X-Consul-Token": token} if token else {}
                url = server.make_url("/").with_path("/")
                full = f"{str(url).rstrip('/')}{path}"
                async with session.request(
                    method, full, data=data, headers=headers | more.get("headers", {})
                ) as answer:
                    return answer.status, answer.headers, await answer.text()

            return await talk(ask)

    return asyncio.run(run())


def one(desk, *request, **more):
    return speak(desk, lambda ask: ask(*request, **more))


def test_a_read_has_consuls_headers(desk):
    status, headers, text = one(desk, "GET", "/v1/catalog/nodes")
    assert (status, json.loads(text)) == (200, [])
    assert int(headers["X-Consul-Index"]) >= 1
    assert (headers["X-Consul-KnownLeader"], headers["X-Consul-LastContact"], headers["X-Nodeagent-Restored"]) == ("true", "0", "0")
    assert headers["Server"] == "nodeagent"


@pytest.mark.parametrize(
    ("header", "is_packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip; q=1.0", True), ("", False), ("identity", False), ("gzip;q=0", False), ("gzip; q = 0.00", False)],
)
def test_who_takes_it_gets_all_hosts_compressed(desk, header, is_packed):
    """The client here unpacks it. No other answer is compressed: there a secret and what a caller may choose could stand together."""
    status, headers, text = one(desk, "GET", "/v1/internal/ui/nodes", headers={"Accept-Encoding": header})
    assert (status, json.loads(text)) == (200, [])
    assert headers.get("Content-Encoding") == ("gzip" if is_packed else None)
    assert "Content-Encoding" not in one(desk, "GET", "/v1/catalog/nodes", headers={"Accept-Encoding": header})[1]


@pytest.mark.parametrize("query", ["pretty", "pretty=true"])
def test_pretty_is_indented(desk, query):
    assert "\n    " in one(desk, "GET", f"/v1/connect/ca/roots?{query}")[2]


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    "route", [route for route in ROUTES if not (route.is_open or route.is_public)], ids=lambda r: f"{r.method} {r.path}"
)
def test_nobody_is_answered_without_a_token(desk, route, token):
    status, _, text = one(desk, route.method, re.sub(r"{.*?}", "x", route.path), token=token)
    assert status == 403
    assert "token" in text


def test_the_leader_is_told_to_anybody(desk):
    assert one(desk, "GET", "/v1/status/leader", token="")[0] == 200


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.is_public])
def test_what_is_public_is_refused_to_a_token_that_was_revoked(desk, path):
    """Its holder must hear of it."""
    statuses = [one(desk, "GET", f"{path}{query}", token=token)[0] for token, query in (("", ""), ("", "?index=1"), ("wrong", ""))]
    assert statuses == [200, 403, 403]


def test_a_bearer_token_is_a_token(desk):
    assert one(desk, "GET", "/v1/catalog/nodes", token="", headers={"Authorization": f"Bearer {desk.secret}"})[0] == 200
    assert secret_of({"Authorization": "Basic abc"}) == ""


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("GET", "/v1/agent/members", 501, "GET /v1/agent/members is not implemented"),
        ("PUT", "/v1/agent/join/10.0.0.1", 501, "PUT /v1/agent/join/10.0.0.1 is not implemented"),
        ("POST", "/v1/catalog/nodes", 501, "POST /v1/catalog/nodes is not implemented"),
        ("GET", "/ui/", 404, "below /v1/"),
        ("GET", "/v1/catalog/services?filter=x", 501, "?filter="),
        ("GET", "/v1/catalog/services?near=_agent", 501, "?near="),
        ("PUT", "/v1/kv/a?acquire=x", 501, "?acquire= of PUT /v1/kv/{key} is not"),
        ("GET", "/v1/catalog/services?dc=dc2", 400, "no path to datacenter"),
        ("GET", "/v1/catalog/services?ns=team", 400, "?ns=team"),
        ("GET", "/v1/catalog/services?token=x", 400, "ends up in logs"),
        ("GET", "/v1/catalog/services?index=1&index=2", 400, "stands twice"),
        ("GET", "/v1/catalog/services?index=x", 400, "?index=x is not a number"),
        ("GET", "/v1/catalog/services?index=1&wait=x", 400, "is not a duration"),
        ("PUT", "/v1/config?cas=x", 400, "not JSON"),
    ],
)
def test_what_is_not_there_or_wrong_is_said(desk, method, path, status, sentence):
    answer = one(desk, method, path)
    assert answer[0] == status
    assert sentence in answer[2]
    assert "Traceback" not in answer[2]


def test_a_body_that_is_too_large_is_refused(desk):
    status, _, text = one(desk, "PUT", "/v1/kv/a", data=io.BytesIO(b"x" * (limits.ENTRY_BYTES + 2)))
    assert status == 413
    assert "larger than" in text


def test_a_body_that_does_not_arrive_is_given_up(desk, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_BODY_S", 0.2)

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    status, _, text = one(desk, "PUT", "/v1/config", data=never())
    assert status == 400
    assert "did not arrive" in text


@pytest.mark.parametrize("begun", [b"", b"GET /v1/catalog/nodes HTTP/1.1\r\nX-Con"])
def test_a_connection_without_a_whole_request_is_closed(desk, monkeypatch, begun):
    monkeypatch.setattr(limits, "CATALOG_IDLE_S", 0.2)

    async def run():
        runner = build_runner(desk.server)
        await runner.setup()
        site = TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
        writer.write(begun)
        async with asyncio.timeout(20):
            said = await reader.read()
        writer.close()
        await runner.cleanup()
        return said

    assert asyncio.run(run()) == b""


def test_a_client_that_goes_away_gives_its_place_back(desk):
    async def run():
        runner = build_runner(desk.server)
        await runner.setup()
        await TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/catalog/nodes?index=2&wait=10m"
        async with ClientSession(headers={"X-Consul-Token": desk.secret}) as session:
            asking = asyncio.ensure_future(session.get(url))
            async with asyncio.timeout(20):
                while not desk.store.watchers._open:
                    await asyncio.sleep(0.01)
                asking.cancel()
                while desk.store.watchers._open:
                    await asyncio.sleep(0.01)
        await runner.cleanup()

    asyncio.run(run())


def test_keys_keep_their_characters(desk):
    async def talk(ask):
        for path in ("a%2Fb", "sp%20ace", "%C3%A9", "per%25cent"):
            assert (await ask("PUT", f"/v1/kv/{path}", data=b"v"))[0] == 200
        return json.loads((await ask("GET", "/v1/kv/?keys"))[2])

    assert speak(desk, talk) == ["a/b", "per%cent", "sp ace", "é"]


def test_a_defect_is_one_sentence_to_the_client_and_a_line_in_the_log(desk, capsys):
    broken = dataclasses.replace(desk.server, draw=lambda: 1 / 0)

    async def talk(ask):
        return await ask("GET", "/v1/catalog/nodes?index=1")

    desk.server = broken
    status, _, text = speak(desk, talk)
    assert (status, text) == (500, "the catalog failed at this request; its log says why")
    said = capsys.readouterr()
    assert "request_failed" in said.out + said.err


def test_a_broken_database_is_one_sentence_too(desk):
    desk.store._reader.close()
    status, _, text = one(desk, "GET", "/v1/catalog/nodes")
    assert status == 500
    assert text.startswith("the catalog's database cannot be read")


def test_a_known_host_that_reaches_for_more_is_an_alarm(desk, capsys):
    async def talk(ask):
        body = json.dumps({"NodeIdentities": [{"NodeName": "host1"}]})
        secret = json.loads((await ask("PUT", "/v1/acl/token", data=body))[2])["SecretID"]
        await ask("GET", "/v1/acl/tokens", token=secret)
        await ask("GET", "/v1/acl/tokens", token="stranger")
        return secret

    secret = speak(desk, talk)
    said = capsys.readouterr()
    said = said.out + said.err
    assert said.count("request_refused") == 1
    assert "host1" in said
    assert secret not in said


ROUTE = Route("GET", "/x", None, ("index",))


def test_parameters_are_known_or_refused():
    assert check_query([("index", "1"), ("pretty", ""), ("dc", "dc1")], ROUTE, "dc1")["index"] == "1"
    with pytest.raises(Missing, match=r"\?wait= of GET /x"):
        check_query([("wait", "1")], ROUTE, "dc1")
    with pytest.raises(BadRequest, match="stands twice"):
        check_query([("index", "1"), ("index", "2")], ROUTE, "dc1")


def test_a_token_in_the_query_may_repeat_the_headers_alone():
    """py-consul registers so; whoever knows both tells no more than the header does."""
    route = Route("GET", "/v1/x", None)
    assert check_query([("token", "s")], route, "dc1", "s") == {}
    for secret in ("", "other"):
        with pytest.raises(BadRequest, match="ends up in logs"):
            check_query([("token", "s")], route, "dc1", secret)


def test_consistency_modes_that_exclude_each_other_are_refused():
    """Each alone changes nothing."""
    route = next(route for route in ROUTES if route.path == "/v1/catalog/nodes")
    assert check_query([("stale", ""), ("cached", "")], route, "dc1")
    for name in ("stale", "cached"):
        with pytest.raises(BadRequest, match=rf"\?{name} and \?consistent exclude each other"):
            check_query([("consistent", ""), (name, "")], route, "dc1")


def test_every_tag_of_the_query_must_be_there(desk):
    """In any case, as with Consul; an empty one nobody has."""

    async def talk(ask):
        for tags in (["a", "b"], ["b"]):
            service = {"Service": "web", "ID": tags[0], "Port": 80, "Tags": tags}
            body = json.dumps({"Node": "host1", "Address": "10.0.0.1", "Service": service})
            await ask("PUT", "/v1/catalog/register", data=body)
        for path in ("/v1/health/service/web", "/v1/catalog/service/web"):
            counts = [len(json.loads((await ask("GET", f"{path}?{query}"))[2])) for query in ("tag=a&tag=b", "tag=B", "tag=")]
            assert counts == [1, 2, 0]

    speak(desk, talk)
