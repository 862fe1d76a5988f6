"""The client's side of an engine: how long it may take, and how it ends."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.errors import PolicyChanged, Reason
from tests.support.http_scene import Scene
from tests.support.loop import run, until

GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            await work(made)

    run(within)


async def exchange(made: Scene, client, app=None):
    await client.say(GET)
    app = app or await made.app()
    await app.head()
    await app.say(OK)
    await client.hear(b"ok")
    return app


def test_a_head_that_does_not_come_whole_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it sends meanwhile; between requests there is more time."""
    monkeypatch.setattr(limits, "HTTP_HEAD_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await exchange(made, client)
        await asyncio.sleep(0.3)
        await client.say(GET[:5])
        await asyncio.sleep(0.05)
        await client.say(GET[5:10])
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        assert made.requests()[-1].status == 408

    scene(work)


def test_a_head_in_two_pieces_is_a_request() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET[:7])
        await asyncio.sleep(0.01)
        await client.say(GET[7:])
        assert await (await made.app()).head() == GET

    scene(work)


def test_a_connection_that_rests_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await exchange(made, client)
        assert await client.rest() == b""
        client.close()
        await until(lambda: made.relay.is_over, "the connection's end")
        assert made.relay.row.reason == Reason.OK

    scene(work)


def test_an_answer_that_does_not_come_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")
        assert await app.is_reset()
        (row,) = made.requests()
        assert (row.reason, row.status) == (Reason.UPSTREAM_TIMEOUT, 504)

    scene(work)


def test_a_body_that_does_not_come_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\nabc")
        assert (await client.head()).startswith(b"HTTP/1.1 408 ")
        (row,) = made.requests()
        assert row.reason == Reason.REQUEST_TIMEOUT

    scene(work)


def test_another_protocol_may_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S", 0.1)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"GET / HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        app = await made.app()
        await app.head()
        await app.say(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await client.head()
        await asyncio.sleep(0.3)
        await client.say(b"still here")
        await app.hear(b"here")

    scene(work)


def test_a_client_that_does_not_close_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last answer."""
    monkeypatch.setattr(limits, "HTTP_LINGER_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        app = await made.app()
        await app.head()
        await app.say(OK)
        assert b"Connection: close" in await client.hear(b"ok")
        await until(lambda: made.relay.is_over, "the connection's end")
        assert made.relay.row.reason == Reason.OK

    scene(work)


def test_a_worker_that_drains_says_so_in_its_answers() -> None:
    """No request is lost: the connection ends after an answer, not before."""

    async def work(made: Scene) -> None:
        client = await made.client()
        app = await exchange(made, client)
        made.live.http.is_draining = True
        await client.say(GET)
        await app.head()
        await app.say(OK)
        assert b"Connection: close" in await client.rest()

    scene(work)


def test_a_change_of_policy_cuts_what_is_going_on() -> None:
    """As it cuts every connection; the instance is told."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        made.relay.end_by(PolicyChanged("shop -> web is denied now"))
        assert await client.is_reset()
        assert await app.is_reset()
        (row,) = made.requests()
        assert row.reason == Reason.POLICY_CHANGED

    scene(work)


def test_bytes_are_counted_both_ways() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await exchange(made, client)
        made.relay.count()
        assert (made.relay.row.sent, made.relay.row.received) == (len(GET), len(OK))

    scene(work)
