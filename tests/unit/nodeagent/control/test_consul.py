"""The catalog's client against a scripted catalog on loopback."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog, CatalogRefused, _open_socket, service_path
from nodeagent.errors import CatalogError
from tests.support.loop import run, until
from tests.support.scripted_catalog import AUTHORIZE, NODES, ROOTS, SERVICES, ScriptedCatalog, node

CANARY = "canary-token-77aa"
HOST1 = node("host1", "10.77.0.1")


def client(peer: ScriptedCatalog, token_file: str = "") -> Catalog:
    return Catalog(CatalogTable(peer.address, token_file=token_file), lambda: 1000.0)


def test_an_answer_has_its_body_and_its_index() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            answer = await catalog.read(NODES)
            assert (answer.body, answer.index, answer.is_filtered) == (b"[]", "10", False)
            assert (catalog.failing_since, catalog.answered_at) == (None, 1000.0)

    run(scene)


def test_a_query_with_an_index_blocks_until_there_is_news() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            waiting = asyncio.create_task(catalog.read(NODES, 10))
            await until(lambda: ("GET", NODES, "10") in peer.asked, "the query arrives")
            assert not waiting.done()
            peer.set(NODES, [HOST1])
            assert b"host1" in (await waiting).body

    run(scene)


def test_the_token_goes_into_the_header_and_into_no_message(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    seen = []

    def script(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Consul-Token"))
        return web.Response(status=403, text="Permission denied")

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer, str(path)) as catalog:
            peer.scripts[NODES] = script
            with pytest.raises(CatalogRefused, match="403") as caught:
                await catalog.read(NODES)
            assert CANARY not in str(caught.value)
            assert catalog.failing_since is None

    run(scene)
    assert seen == [CANARY]


def test_a_refusal_says_that_the_tokens_file_is_missing(tmp_path) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer, str(tmp_path / "token")) as catalog:
            peer.scripts[NODES] = lambda _: web.Response(status=403, text="Permission denied")
            with pytest.raises(CatalogRefused, match=f"no token was sent: {tmp_path}/token is missing"):
                await catalog.read(NODES)

    run(scene)


def test_a_put_sends_json() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            assert await catalog.put("/v1/config", {"Kind": "x"}) == b"true"
            assert peer.written == [("/v1/config", {"Kind": "x"})]
            peer.authorize = web.json_response
            assert await catalog.post(AUTHORIZE, {"Kind": "x"}) == b'{"Kind": "x"}'
            assert peer.asked[-1][:2] == ("POST", AUTHORIZE)

    run(scene)


def big(_request: web.Request) -> web.Response:
    return web.Response(body=b"x" * 4096)


def leaderless(_request: web.Request) -> web.Response:
    return web.Response(body=b"[]", headers={"X-Consul-KnownLeader": "false"})


def elsewhere(_request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


@pytest.mark.parametrize(
    ("script", "message"),
    [(big, "more than 1000 bytes"), (leaderless, "no leader"), (elsewhere, "302")],
)
def test_answers_that_must_not_be_taken(monkeypatch, script, message: str) -> None:
    monkeypatch.setattr(limits, "CATALOG_BODY_BYTES", 1000)

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[NODES] = script
            with pytest.raises(CatalogError, match=message):
                await catalog.read(NODES)

    run(scene)


@pytest.mark.parametrize("path", [ROOTS, "/v1/agent/connect/ca/roots", "/v1/agent/connect/ca/leaf/web"])
def test_what_the_agent_answers_itself_needs_no_leader(path: str) -> None:
    """Consul 1.8 says of its roots that there is none, always: taken at its word no agent would ever know them."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[path] = leaderless
            assert (await catalog.read(path)).body == b"[]"

    run(scene)


@pytest.mark.parametrize(
    ("path", "marks", "is_taken"),
    [("/v1/kv/a/", {"X-Consul-Index": "7"}, True), ("/v1/kv/a/", {}, False), (NODES, {"X-Consul-Index": "7"}, False),
     ("/v1/kv/a/", {"X-Consul-Index": "7", "X-Consul-KnownLeader": "false"}, False)],
)  # fmt: skip
def test_no_such_key_is_an_answer_and_no_such_path_is_none(path: str, marks: dict[str, str], is_taken: bool) -> None:  # noqa: FBT001 - a table's column
    """With the index at which one waits for it; without one it is a server that has no such store."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[path] = lambda _: web.Response(status=404, headers=marks)
            if is_taken:
                answer = await catalog.read(path + "?recurse=true")
                assert (answer.body, answer.index) == (b"null", "7")
            else:
                with pytest.raises(CatalogRefused):
                    await catalog.read(path)

    run(scene)


def test_filtered_answers_say_so() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[NODES] = lambda _: web.Response(
                body=b"[]", headers={"X-Consul-Results-Filtered-By-ACLs": "true"}
            )
            assert (await catalog.read(NODES)).is_filtered

    run(scene)


def test_who_is_not_there_is_named_with_a_cure_and_recovery_wakes_who_rests() -> None:
    async def scene() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(f"http://127.0.0.1:{port}"), lambda: 5.0) as catalog:
            with pytest.raises(CatalogError, match="is the catalog running"):
                await catalog.read(NODES)
            assert catalog.failing_since == 5.0
            resting = asyncio.create_task(catalog.rest(3600))
            await asyncio.sleep(0)
            await peer.open(port)
            await catalog.read(NODES)
            await resting
            assert catalog.failing_since is None

    run(scene)


def test_a_question_that_fails_by_itself_is_no_outage() -> None:
    """Nobody is woken by it, and no older catalog awaited; where the pulse fails both are so."""

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            catalog.note_index(SERVICES, "50")
            peer.scripts = dict.fromkeys(("/v1/leaf", NODES), lambda request: request.transport.abort())
            resting = asyncio.create_task(catalog.rest(3600))
            await asyncio.sleep(0)
            for path, is_outage in (("/v1/leaf", False), (NODES, True)):
                with pytest.raises(CatalogError, match="the connection failed"):
                    await catalog.read(path)
                assert (catalog.failing_since, catalog.is_away, catalog.is_settled) == (1000.0, is_outage, not is_outage)
                await catalog.read(SERVICES)
                await asyncio.sleep(0)
                assert (catalog.failing_since, catalog.is_away, resting.done()) == (None, False, is_outage)

    run(scene)


def test_a_connection_that_says_nothing_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_READ_MARGIN_S", 0.2)

    async def scene() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            async with Catalog(CatalogTable(f"http://127.0.0.1:{silent.getsockname()[1]}"), lambda: 0.0) as catalog:
                with pytest.raises(CatalogError, match="no answer in time"):
                    await catalog.read(NODES)

    run(scene)


def test_names_are_quoted_in_paths() -> None:
    assert service_path("/v1/health/service/", "a/b?c") == "/v1/health/service/a%2Fb%3Fc"


def failing(_request: web.Request) -> web.Response:
    return web.Response(status=500, text="rpc error")


@pytest.mark.parametrize("script", [big, leaderless, failing])
def test_an_answer_that_cannot_be_taken_is_no_loss_of_the_catalog(monkeypatch, script) -> None:
    monkeypatch.setattr(limits, "CATALOG_BODY_BYTES", 1000)

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts["/v1/health/service/bad"] = script
            resting = asyncio.create_task(catalog.rest(3600))
            for _ in range(3):
                with pytest.raises(CatalogError):
                    await catalog.read("/v1/health/service/bad")
                assert (catalog.failing_since, catalog.answered_at) == (None, 1000.0)
                await catalog.read(NODES)
            assert not resting.done()  # backoff is not cut short by the answers of others
            resting.cancel()

    run(scene)


def test_only_an_answer_that_can_be_taken_confirms_what_is_in_force() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[NODES] = failing
            with pytest.raises(CatalogError):
                await catalog.read(NODES)
            assert (catalog.answered_at, catalog.confirmed_at) == (1000.0, 0.0)
            peer.scripts.clear()
            await catalog.read(NODES)
            assert catalog.confirmed_at == 1000.0

    run(scene)


def test_only_so_many_connections_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next question waits for a place: Consul's agent would refuse it."""
    monkeypatch.setattr(limits, "CATALOG_CONNECTIONS", 2)

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            waiting = [asyncio.create_task(catalog.read(NODES, 10)) for _ in range(3)]
            await until(lambda: len(peer.asked) == 2, "two queries")
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(peer.asked) == 2
            peer.set(NODES, [HOST1])
            await asyncio.gather(*waiting)
            assert len(peer.asked) == 3

    run(scene)


def test_a_catalog_that_does_not_take_the_connection_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is full: the kernel drops what knocks."""
    monkeypatch.setattr(limits, "CATALOG_CONNECT_S", 0.05)
    monkeypatch.setattr(limits, "CATALOG_READ_MARGIN_S", 3600.0)

    async def scene() -> None:
        with socket.socket() as door, contextlib.ExitStack() as knocking:
            door.bind(("127.0.0.1", 0))
            door.listen(0)
            for _ in range(3):
                sock = knocking.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(door.getsockname())
            table = CatalogTable(f"http://127.0.0.1:{door.getsockname()[1]}", token_file="")
            async with Catalog(table, lambda: 1000.0) as catalog:
                with pytest.raises(CatalogError, match="no answer in time"):
                    await catalog.read(NODES)

    run(scene)


def test_a_catalog_that_is_gone_is_noticed_while_nothing_is_said() -> None:
    """The kernel asks for it, and gives up after CATALOG_DEAD_S, whether or not something is on its way."""
    with _open_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ())) as sock:
        idle, every, count, user_ms = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        )
    assert idle + every * count == user_ms / 1000 == limits.CATALOG_DEAD_S


def test_where_its_name_leads_is_told_and_an_address_is_no_name() -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer:
            told: list[tuple[str, ...]] = []
            for address in (peer.address, peer.address.replace("127.0.0.1", "localhost")):
                async with Catalog(CatalogTable(address), lambda: 0.0) as catalog:
                    catalog.on_resolved = told.append
                    await catalog.read(NODES)
            assert len(told) == 1
            assert "127.0.0.1" in told[0]

    run(scene)


def test_an_index_that_went_back_is_told_for_a_while() -> None:
    now, elapsed = 1_800_000_000.0, 5.0
    catalog = Catalog(CatalogTable("http://127.0.0.1:1"), lambda: now, lambda: elapsed)
    assert catalog.rewind_alarm == ""
    catalog.note_rewind(NODES, 99, "12")
    assert "index went back from 99 to 12 (/v1/catalog/nodes) at 08:00:00 UTC" in catalog.rewind_alarm
    now -= 86_400.0  # the clock is set, which is neither here nor there
    assert "08:00:00" in catalog.rewind_alarm
    elapsed += limits.REWIND_SHOWN_S
    assert catalog.rewind_alarm == ""


@pytest.mark.parametrize("status", [200, 203, 500])
def test_a_key_in_an_answer_is_in_no_message(status: int) -> None:
    """Connect's agent answers with the key that it made; a proxy between may give another status to that."""
    key = "-----BEGIN EC PRIVATE KEY-----canary"

    async def scene() -> None:
        async with ScriptedCatalog() as peer, client(peer) as catalog:
            peer.scripts[NODES] = lambda _: web.json_response({"PrivateKeyPEM": key}, status=status)
            try:
                said = repr(await catalog.read(NODES))
            except CatalogError as error:
                said = str(error)
            assert "canary" not in said

    run(scene)


def test_one_long_answer_is_read_at_a_time(monkeypatch) -> None:
    """Else each question could fill the memory that is meant for all."""
    monkeypatch.setattr(limits, "CATALOG_LONG_BYTES", 100)
    go = asyncio.Event()

    async def scene() -> None:
        async def long(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x" * 200)
            await go.wait()
            await response.write_eof()
            return response

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", long)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Catalog(CatalogTable(f"http://127.0.0.1:{runner.addresses[0][1]}", token_file=""), lambda: 1.0) as catalog:
            tasks = [asyncio.create_task(catalog.read("/v1/catalog/nodes")) for _ in range(3)]
            await until(catalog._long.locked, "one reads on")
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in tasks)
            go.set()
            assert [len((await task).body) for task in tasks] == [200] * 3
            assert not catalog._long.locked()
        await runner.cleanup()

    run(scene)
