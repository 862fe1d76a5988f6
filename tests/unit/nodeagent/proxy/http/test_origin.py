"""A connection to an instance: what it tells whoever uses it, and what can be known of one that is gone."""

import asyncio
import socket

import pytest

from nodeagent import limits
from nodeagent.errors import AgentError, PeerLost, Reason, UpstreamProtocol, UpstreamReset
from nodeagent.model.message import ResponseHead
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.upstream import connect_direct
from tests.support.http_scene import Scene, Talk
from tests.support.loop import run, until
from tests.support.twohosts import TwoHosts


class Told:
    """A user that remembers."""

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.body = b""
        self.ended = 0
        self.lost: AgentError | None = None

    def on_answer(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def on_answer_body(self, data: bytes) -> None:
        self.body += data

    def on_answer_end(self, trailers: object) -> None:
        self.ended += 1

    def on_origin_lost(self, error: AgentError) -> None:
        self.lost = error

    def on_origin_full(self) -> None: ...
    def on_origin_drained(self) -> None: ...


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            origin = await made.role.open(None)
            await work(origin, await made.app())
            origin.drop()

    run(within)


def test_an_answer_is_told_in_its_parts_and_another_may_follow() -> None:
    async def work(origin: Origin, app: Talk) -> None:
        for number in range(2):
            told = Told()
            origin.begin(told, b"GET")
            origin.write(b"x")
            await app.hear(b"x")
            await app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await until(lambda told=told: told.ended, "the answer")
            assert ([head.status for head in told.heads], told.body, origin.is_used) == ([200], b"ok", number > 0)
            origin.rest()
            assert origin.is_ready

    scene(work)


def test_an_answer_that_nobody_asked_for_ends_it() -> None:
    async def work(origin: Origin, app: Talk) -> None:
        await app.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await until(lambda: not origin.is_ready, "the end of the connection")
        assert await app.is_reset()

    scene(work)


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"no HTTP\r\n\r\n", UpstreamProtocol), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", UpstreamReset), (b"", UpstreamReset)],
)
def test_an_answer_that_is_none(said: bytes, error: type[AgentError]) -> None:
    async def work(origin: Origin, app: Talk) -> None:
        told = Told()
        origin.begin(told, b"GET")
        await app.say(said)
        app.half_close()
        await until(lambda: told.lost, "the news")
        assert isinstance(told.lost, error)

    scene(work)


def test_who_had_closed_before_the_request_came_has_not_begun() -> None:
    """Its FIN acknowledges nothing of it: certain, also for what must not be done twice."""

    async def work(origin: Origin, app: Talk) -> None:
        told = Told()
        app.close()
        origin.begin(told, b"POST")
        origin.write(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: told.lost, "the news")
        assert origin.started_when_lost is False

    scene(work)


def test_who_had_the_request_may_have_begun() -> None:
    async def work(origin: Origin, app: Talk) -> None:
        told = Told()
        origin.begin(told, b"POST")
        origin.write(b"POST")
        await app.hear(b"POST")
        app.close()
        await until(lambda: told.lost, "the news")
        assert origin.started_when_lost is None

    scene(work)


def test_a_reset_says_nothing_of_what_was_read() -> None:
    async def work(origin: Origin, app: Talk) -> None:
        told = Told()
        origin.begin(told, b"POST")
        app.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        app.close()
        origin.write(b"POST")
        await until(lambda: told.lost, "the news")
        assert origin.started_when_lost is None

    scene(work)


def test_one_that_the_instance_has_closed_is_not_ready() -> None:
    """At once, by the kernel's word: before the loop has heard of it."""

    async def work(origin: Origin, app: Talk) -> None:
        assert origin.is_ready
        app.close()
        assert not origin.is_ready

    scene(work)


def test_one_that_leaves_waits_for_the_instances_end_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_LINGER_S", 0.1)

    async def work(origin: Origin, app: Talk) -> None:
        origin.leave()
        assert await app.rest() == b""
        await until(lambda: origin.end.is_closed, "the end of the connection")

    scene(work)


def test_a_tunnel_that_is_lost_is_told_from_an_instance_that_ended() -> None:
    async def work() -> None:
        end, told = StreamEnd(), Told()
        origin = Origin(end, "httptools")
        origin.begin(told, b"GET")
        end.on_reset(-1)
        assert isinstance(told.lost, PeerLost)
        assert origin.started_when_lost is None
        assert not origin.is_ready

    run(work)


def test_a_connection_is_where_it_was_dialled() -> None:
    """It speaks with what was accepted there, and nobody else."""

    async def within() -> None:
        async with Scene() as made:
            end = await connect_direct(made.role._address, "127.0.0.1", made.live.ports)
            app = await made.app()
            origin = Origin(end, "h11")
            told = Told()
            origin.begin(told, b"GET")
            await app.say(b"HTTP/1.1 204 N\r\n\r\n")
            await until(lambda: told.ended, "the answer")
            origin.leave()
            app.close()
            await asyncio.sleep(0)

    run(within)


def test_an_answer_that_nobody_wants_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_LINGER_S", 0.1)

    async def work(origin: Origin, app: Talk) -> None:
        origin.begin(Told(), b"GET")
        await app.say(b"HTTP/1.1 503 B\r\nContent-Length: 4\r\n\r\nb")
        await until(lambda: origin.has_answered, "its beginning")
        origin.waste(lambda: None)
        assert await app.is_reset()

    scene(work)


def test_one_that_is_full_is_not_ready() -> None:
    """The next request's body would go into memory without end: whoever writes is told only that it has become full."""

    async def work(origin: Origin, app: Talk) -> None:
        del app
        origin.begin(Told(), b"POST")
        origin.pause()
        origin.rest()
        assert not origin.is_ready
        origin.resume()
        assert origin.is_ready

    scene(work)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_for_an_application_that_is_gone_is_given_back(method: bytes) -> None:
    """On a stream that had reached it before: whoever routes knows that nothing began, whatever is asked."""

    async def work() -> None:
        async with TwoHosts(protocol="http") as hosts:
            origin, told = Origin(await hosts.call(), "httptools"), Told()
            web, _ = await hosts.accept()
            hosts.app.close()
            web.close()
            await until(lambda: hosts.two.live.relays, "the stream")
            origin.begin(told, method)
            origin.write(method + b" / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
            await until(lambda: told.lost, "the end of the stream")
            assert (origin.started_when_lost, told.heads) == (False, [])
            await until(lambda: not hosts.two.live.relays, "the row")
            records = hosts.two.live.records.take()
            assert records is not None
            assert [row.reason for row in (*records.rows, *records.requests)] == [Reason.UPSTREAM_REFUSED] * 2

    run(work)
