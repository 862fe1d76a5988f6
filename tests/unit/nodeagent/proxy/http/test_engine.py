"""The client's side of an engine: how long it may take, and how it ends."""

import asyncio
import socket

import pytest

from nodeagent import limits
from nodeagent.decide.chain import Leg, Target
from nodeagent.errors import Denied, PolicyChanged, Reason, Side, UpstreamRefused
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.http.origin import Origin
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


def test_a_route_s_own_time_for_silence_is_kept() -> None:
    """Although the timer was set for a longer one before the route was known."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.leg = Leg(route="r", target=Target("web"), idle_timeout_s=0.2)
        await client.say(GET)
        await (await made.app()).head()
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")

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


def test_a_client_that_reads_slowly_gets_the_last_answer_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_LINGER_S", 0.2)

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        app = await made.app()
        await app.head()
        says = asyncio.create_task(app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)))
        await client.head()
        size = len(client.heard)
        while size < 3_000_000:
            await asyncio.sleep(0.03)
            data = await asyncio.get_running_loop().sock_recv(client.sock, 100_000)
            assert data
            size += len(data)
        await says

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


BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


def test_an_answer_in_whose_place_another_is_asked_for_is_not_seen() -> None:
    """Its connection serves on; the request's body goes again."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.waits = [0.0, 0.01]
        await client.say(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc")
        app = await made.app()
        for answer in (BUSY, BUSY, OK):
            assert (await app.hear(b"abc")).endswith(b"\r\n\r\nabc")
            await app.say(answer)
        assert await client.hear(b"ok") == OK
        assert (made.role.opened, made.role.failures) == (1, 2)
        assert made.role.asked_again == ["503", "503", "200"]
        (row,) = made.requests()
        assert (row.status, row.retries, row.reason) == (200, 2, Reason.OK)

    scene(work)


def test_the_last_try_s_answer_is_the_client_s() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(BUSY)
        assert await client.hear(b"busy") == BUSY
        assert made.role.failures == 1

    scene(work)


def test_an_instance_that_is_not_reached_is_not_the_last() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.waits, made.role.refuses_to_open = [0.0], UpstreamRefused("nobody")
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(OK)
        assert await client.hear(b"ok") == OK
        assert made.role.asked_again == ["connect-failure", "200"]

    scene(work)


def test_a_refusal_of_policy_is_final() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.waits, made.role.refuses_to_open = [0.0], Denied("no")
        await client.say(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 403 ")
        assert made.role.asked_again == []

    scene(work)


def test_a_try_that_is_not_answered_in_time_is_given_up() -> None:
    """Another follows, else it is a 504; who was too late has no say any more."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.leg, made.role.waits = Leg(route="r", target=Target("web"), try_timeout_s=0.15), [0.0]
        await client.say(GET)
        first = await made.app()
        await first.head()
        second = await made.app()
        assert await first.is_reset()
        await second.head()
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")
        assert made.role.asked_again == ["timeout", "timeout"]

    scene(work)


def test_a_try_whose_time_is_over_while_it_is_connected_takes_no_other_s_place() -> None:
    async def work(made: Scene) -> None:
        client, opens, gate = await made.client(), made.role.open, asyncio.Event()
        made.role.leg, made.role.waits = Leg(route="r", target=Target("web"), try_timeout_s=0.1), [0.0]

        async def slowly(plan):
            if made.role.opened == 0:
                made.role.opened += 1
                await gate.wait()
            return await opens(plan)

        made.role.open = slowly
        await client.say(GET)
        app = await made.app()
        await app.head()
        gate.set()
        await asyncio.sleep(0.02)
        await app.say(OK)
        assert await client.hear(b"ok") == OK
        late = await made.app()
        await client.say(GET)
        heard = [asyncio.create_task(each.head()) for each in (app, late)]
        (done,), (left,) = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
        assert done.result() == GET
        left.cancel()

    scene(work)


def test_the_time_of_a_whole_request_ends_it() -> None:
    """Also in the midst of its answer, which does not look whole then."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.leg = Leg(route="r", target=Target("web"), request_timeout_s=0.15)
        await client.say(GET)
        app = await made.app()
        await app.head()
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")
        await client.hear(b"\n")
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(OK[:-1])
        await client.hear(b"o")
        assert await client.is_reset()

    scene(work)


def test_a_client_that_reads_no_answers_is_not_read_from() -> None:
    """What it asks meanwhile waits in the kernels, not here, and is not late for waiting."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.relay.downstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        made.role.refusal, engine = Denied("no"), made.relay.upstream
        asks = asyncio.create_task(client.say(GET * 15_000))
        await until(lambda: engine._is_next_due and engine._is_paused, "the pause")
        assert engine._parser.buffered < 300_000
        assert engine._head_at == 0
        while engine._is_paused or not asks.done():
            await asyncio.get_running_loop().sock_recv(client.sock, 1_000_000)
        await asks

    scene(work)


def test_a_defect_while_an_answer_comes_ends_this_request_alone() -> None:
    """The connection's reader is not to hear of it: in a tunnel it would end all streams."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        made.role.answer_headers = None
        await app.say(OK)
        assert await client.is_reset()
        assert await app.is_reset()
        (row,) = made.requests()
        assert (row.reason, row.side) == (Reason.INTERNAL, Side.AGENT)

    scene(work)


def test_a_stream_that_ended_as_soon_as_it_was_there() -> None:
    """Nobody hears of that any more; a request that had gone there would wait for an answer."""

    async def work(made: Scene) -> None:
        client = await made.client()

        async def opens(_plan):
            end = StreamEnd()
            end.on_reset(8)
            return Origin(end, "httptools")

        made.role.open = opens
        await client.say(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")

    scene(work)
