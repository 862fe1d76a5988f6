"""The way of requests through an engine: what each side sees, whatever the other does."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.decide.chain import Target
from nodeagent.errors import BreakerOpen, Denied, Reason, Side, UpstreamRefused
from tests.support.http_scene import Scene, Talk
from tests.support.loop import run, until

GET = b"GET /a?b HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            await work(made)

    run(within)


async def pour(talk: Talk) -> int:
    """How many megabytes of a hundred the other side takes, until it takes no more."""
    for number in range(100):
        try:
            async with asyncio.timeout(0.5):
                await talk.say(bytes(1_000_000))
        except TimeoutError:
            return number
    return 100


def test_requests_of_one_connection_go_on_one_connection() -> None:
    """Written anew, and the answers too; each has its row."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        assert await app.head() == GET
        await app.say(OK)
        assert await client.hear(b"ok") == OK
        await client.say(b"POST /p HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc")
        assert await app.hear(b"abc") == b"POST /p HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
        await app.say(OK)
        await client.hear(b"ok")
        assert made.role.opened == 1
        first, second = made.requests()
        assert (first.method, first.path, first.status, first.received) == ("GET", "/a", 200, 2)
        assert (second.method, second.path, second.status, second.sent) == ("POST", "/p", 200, 3)

    scene(work)


def test_what_is_pipelined_is_answered_in_order() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET + GET.replace(b"/a", b"/second"))
        app = await made.app()
        assert b"/a" in await app.head()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await app.head()
        await app.say(OK)
        assert b"/second" in await app.head()
        await app.say(OK.replace(b"ok", b"2!"))
        assert await client.hear(b"2!") == OK + OK.replace(b"ok", b"2!")

    scene(work)


def test_chunks_and_trailers_pass_both_ways() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
        app = await made.app()
        assert b"Transfer-Encoding: chunked\r\n" in await app.head()
        assert await app.hear(b"\r\n\r\n") == b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
        await app.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 2\r\n\r\n")
        await client.head()
        assert await client.hear(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nX-T: 2\r\n\r\n"

    scene(work)


def test_a_refused_request_is_answered_and_the_next_one_goes_on() -> None:
    """The body names the request, and nothing else."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.refusal = Denied("shop -> web: a long story")
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nX-Request-Id: r-1\r\nContent-Length: 3\r\n\r\nabc")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"Connection: close" not in head
        assert await client.hear(b"\n") == b"request r-1\n"
        (row,) = made.requests()
        assert (row.status, row.reason, row.side, row.id) == (403, Reason.DENIED, Side.MESH, "r-1")
        made.role.refusal = None
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(OK)
        await client.hear(b"ok")

    scene(work)


def test_a_thousand_refused_requests_at_once_are_answered() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.refusal = Denied("no")
        await client.say(GET * 1000)
        client.half_close()
        assert (await client.rest()).count(b"HTTP/1.1 403 ") == 1000

    scene(work)


@pytest.mark.parametrize(
    ("said", "status"),
    [(b"GET / HTTP/1.1\r\n\r\n", b"400"), (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"), (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"505")],
)
def test_what_is_no_request_is_answered_and_ends_the_connection(said: bytes, status: bytes) -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(said)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer
        (row,) = made.requests()
        assert row.reason == Reason.BAD_MESSAGE

    scene(work)


def test_an_instance_that_is_not_there_is_a_503() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.refuses_to_open = UpstreamRefused("10.0.0.1:80: Connection refused")
        await client.say(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 503 ")
        (row,) = made.requests()
        assert (row.reason, row.status) == (Reason.UPSTREAM_REFUSED, 503)

    scene(work)


def test_an_early_answer_ends_the_instances_connection_and_not_the_clients() -> None:
    """What is left of the body is thrown away."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nabc")
        app = await made.app()
        await app.hear(b"abc")
        await app.say(OK)
        await client.hear(b"ok")
        assert await app.is_reset()
        await client.say(b"def" + GET)
        app = await made.app()
        assert await app.head() == GET
        await app.say(OK)
        await client.hear(b"ok")

    scene(work)


def test_a_client_that_goes_away_ends_what_is_done_for_it() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 6\r\n\r\nabc")
        app = await made.app()
        await app.hear(b"abc")
        made.relay.downstream.transport.abort()
        assert await app.is_reset()
        (row,) = made.requests()
        assert (row.reason, row.status) == (Reason.RESET_BY_DOWNSTREAM, 0)

    scene(work)


def test_an_answer_that_breaks_off_does_not_look_whole() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(OK[:-1])
        await client.hear(b"o")
        app.close()
        assert await client.is_reset()
        (row,) = made.requests()
        assert (row.reason, row.side, row.status) == (Reason.RESET_BY_UPSTREAM, Side.UPSTREAM, 200)

    scene(work)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_instance_that_closes_without_an_answer_is_a_502_once(method: bytes) -> None:
    """A fresh connection: it was asked, and may have begun."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(method + GET[3:])
        app = await made.app()
        await app.head()
        app.close()
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        assert made.role.opened == 1

    scene(work)


def test_a_client_that_closes_its_side_gets_its_answer() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        client.half_close()
        app = await made.app()
        await app.head()
        await app.say(OK)
        assert (await client.rest()).endswith(b"ok")
        await until(lambda: made.relay.is_over, "the connection's end")
        assert made.relay.row.reason == Reason.OK

    scene(work)


def test_another_protocol_is_relayed_after_a_real_101() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        asked = b"GET /ws HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        await client.say(asked + b"early")
        app = await made.app()
        assert b"Upgrade: websocket\r\n" in await app.head()
        await app.say(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nlate")
        assert b"101" in await client.head()
        assert await client.hear(b"late") == b"late"
        assert await app.hear(b"early") == b"early"
        await client.say(b"\x00\xff GET / HTTP/1.1")
        assert await app.hear(b"1.1") == b"\x00\xff GET / HTTP/1.1"
        await app.say(b"\x01")
        app.half_close()
        assert await client.rest() == b"\x01"
        client.close()
        assert await app.rest() == b""
        await until(lambda: made.relay.is_over, "the connection's end")
        assert made.relay.row.reason == Reason.OK

    scene(work)


def test_an_upgrade_that_is_not_made_is_a_plain_answer() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"GET /ws HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        app = await made.app()
        await app.head()
        await app.say(OK)
        await client.hear(b"ok")
        await client.say(GET)
        assert await app.head() == GET

    scene(work)


def test_a_connection_that_was_closed_while_it_rested_is_not_used() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        for number in range(3):
            await client.say(b"POST" + GET[3:])
            app = await made.app()
            await app.head()
            await app.say(OK)
            await client.hear(b"ok")
            app.close()
            assert made.role.opened == number + 1

    scene(work)


def test_a_slow_reader_slows_the_instance() -> None:
    """An answer of 100 MB is never held."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        assert await pour(app) < 40
        assert made.relay.downstream.transport.get_write_buffer_size() < 2_000_000

    scene(work)


def test_a_slow_reader_s_next_requests_wait_and_nothing_stays_paused() -> None:
    """Many answers, each of them small: as little is held as of a long one. Their connection serves on."""

    async def work(made: Scene) -> None:
        client, size = await made.client(), 500_000
        await client.say(GET * 100)
        app = await made.app()
        answered = asyncio.create_task(serve(app, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)))
        await asyncio.sleep(0.5)
        assert made.relay.downstream.transport.get_write_buffer_size() < 2_000_000
        assert made.relay.downstream.peer.received < 40_000_000
        for _ in range(100):
            await client.head()
            while len(client.heard) < size:
                client.heard += await asyncio.get_running_loop().sock_recv(client.sock, 1_000_000)
            client.heard = client.heard[size:]
        answered.cancel()
        assert made.role.opened == 1

    async def serve(app: Talk, answer: bytes) -> None:
        while True:
            await app.head()
            await app.say(answer)

    scene(work)


def test_a_slow_instance_slows_the_client() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n")
        await made.app()
        assert await pour(client) < 40

    scene(work)


def test_a_defect_ends_the_connection_and_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.plan = None
        await client.say(GET)
        assert await client.is_reset()
        assert made.relay.row.reason == Reason.INTERNAL

    scene(work)
    assert "TypeError" in capsys.readouterr().err


def test_what_nobody_wants_of_a_body_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_UNREAD_BYTES", 10)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        app = await made.app()
        await app.hear(b"abc\r\n")
        await app.say(OK)
        await client.hear(b"ok")
        await client.say(b"14\r\n" + bytes(20) + b"\r\n")
        assert await client.rest() == b""

    scene(work)


def test_a_request_waits_for_its_turn_and_is_decided_once_more() -> None:
    """All of its body is still there, and what is refused then is refused."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.waits_for = ("shop", Target("web"))
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc")
        app = await made.app()
        assert (await app.hear(b"abc")).endswith(b"\r\n\r\nabc")
        await app.say(OK)
        assert await client.hear(b"ok") == OK
        made.role.refuses_again = BreakerOpen("as many as it may")
        await client.say(GET)
        assert b" 503 " in await client.head()
        assert made.role.turns == 2
        assert [(row.status, row.reason, row.side) for row in made.requests()][1:] == [(503, Reason.LIMIT, Side.MESH)]
        assert made.live.http.requests.take()[0].shed == 1

    scene(work)
