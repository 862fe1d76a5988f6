"""How an answer is framed for its client, what is kept of a request, and what is written down of both."""

import pytest

from nodeagent import limits
from nodeagent.decide.chain import Target
from nodeagent.errors import BreakerOpen, Denied, Reason, Side, UpstreamReset
from nodeagent.model.message import RequestHead
from nodeagent.proxy.http.exchange import Exchange, Plan, row_of
from nodeagent.proxy.http.roles import ask
from tests.support.http_scene import Scene
from tests.support.loop import run, until

GET = b"GET /a?b HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def scene(work) -> None:
    async def within() -> None:
        async with Scene() as made:
            await work(made)

    run(within)


def exchange(**said) -> Exchange:
    head = RequestHead(b"POST", b"/a?secret", b"web", [], **said)
    return Exchange(head, ask(head), 0.0)


class Role:
    source, destination, direction = "shop", "web", "outbound"


def test_pieces_of_a_body_are_kept_while_they_are_few() -> None:
    """All of them until there is a connection; then no more than another try may have."""
    made = exchange(length=-1)
    made.keep(b"x" * limits.HTTP_KEPT_BYTES)
    made.keep(b"y")
    assert made.is_homeless
    assert len(made.kept or ()) == 2
    made.origin = object()
    assert not made.is_homeless
    made.forget()
    assert made.kept is None
    made.keep(b"z")
    assert made.kept is None


def test_the_first_failure_is_believed() -> None:
    made = exchange()
    made.fail(Denied("no"))
    made.fail(UpstreamReset("later"))
    assert (made.reason, made.error) == (Reason.DENIED, "no")


def test_a_row_has_no_query_and_is_short() -> None:
    """Nor a header."""
    made = exchange()
    made.request.method = b"M" * 100
    made.plan = Plan(b"/" + b"a" * 1000 + b"?secret", [], route="Routes[1]", instance="10.0.0.1:80", permit="p", generation=7)
    made.status, made.tries = 200, 2
    row = row_of(made, Role(), connection="b-1", began_at=5.0)
    assert len(row.path) == limits.REQUEST_PATH_BYTES
    assert len(row.method) == limits.REQUEST_METHOD_BYTES
    assert (row.connection, row.route, row.instance, row.permit, row.generation, row.retries) == ("b-1", "Routes[1]", "10.0.0.1:80", "p", 7, 1)
    made.plan = None
    assert row_of(made, Role(), connection="", began_at=5.0).path == "/a"


def test_a_body_too_long_to_be_read_for_nothing_ends_the_connection() -> None:
    """After the answer; the client is not reset while it reads that."""

    async def work(made: Scene) -> None:
        client = await made.client()
        made.role.refusal = Denied("no")
        await client.say(b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\nabc")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"Connection: close" in head
        await client.rest()
        client.close()
        await until(lambda: made.relay.is_over, "the connection's end")
        assert made.relay.row.reason == Reason.OK

    scene(work)


def test_an_answer_until_the_connections_end_is_told_in_chunks() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        app.close()
        assert b"chunked" in await client.head()
        assert await client.hear(b"0\r\n\r\n") == b"9\r\nall of it\r\n0\r\n\r\n"
        await client.say(GET)
        await made.app()

    scene(work)


def test_a_client_of_http10_gets_no_chunks() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"GET / HTTP/1.0\r\n\r\n")
        app = await made.app()
        await app.head()
        await app.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        answer = await client.rest()
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nok")

    scene(work)


def test_an_answer_before_the_last_passes_and_the_body_follows_it() -> None:
    """Expect: 100-continue."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        app = await made.app()
        assert b"Expect: 100-continue\r\n" in await app.head()
        await app.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 100 ")
        await client.say(b"hi")
        await app.hear(b"hi")
        await app.say(OK)
        assert b"Connection: close" not in await client.hear(b"ok")

    scene(work)


def test_a_body_that_may_never_come_ends_the_connection() -> None:
    """The instance did not say 100: nobody knows whether the client sends its body now or its next request."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        app = await made.app()
        await app.head()
        await app.say(OK.replace(b"200 OK", b"417 No"))
        assert b"Connection: close" in await client.rest()

    scene(work)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 N\r\n\r\n", b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n"])
def test_answers_without_a_body(answer: bytes) -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        for _ in range(2):
            await app.head()
            await app.say(answer)
            assert await client.head() == answer
            await client.say(GET)

    scene(work)


def test_head_has_a_length_and_no_body() -> None:
    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(b"HEAD" + GET[3:])
        app = await made.app()
        await app.head()
        await app.say(OK[:-2])
        assert await client.head() == OK[:-2]
        await client.say(GET)
        assert await app.head() == GET

    scene(work)


def test_a_request_is_sent_again_where_the_instance_closed_as_it_came() -> None:
    """Idempotent, or certainly not begun: here nobody can tell, as the connection is reset."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        await app.say(OK)
        await client.hear(b"ok")
        await client.say(GET)
        await app.head()
        app.close()
        app = await made.app()
        assert await app.head() == GET
        await app.say(OK)
        await client.hear(b"ok")
        await client.say(b"POST" + GET[3:])
        await app.head()
        app.close()
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")

    scene(work)


def test_a_request_gets_so_many_connections() -> None:
    """Each of which had closed before it came: it has begun nowhere."""

    async def work(made: Scene) -> None:
        client, opens = await made.client(), made.role.open

        async def closing(plan):
            origin = await opens(plan)
            (await made.app()).close()
            return origin

        made.role.open = closing
        await client.say(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        assert made.role.opened == limits.HTTP_TRIES

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
        assert [(row.status, row.reason, row.side) for row in made.requests()][1:] == [(503, Reason.SHED, Side.MESH)]
        assert made.live.http.requests.take()[0].shed == 1

    scene(work)


@pytest.mark.parametrize("is_early", [True, False])
def test_the_end_of_a_client_goes_on_to_the_application(is_early: bool) -> None:  # noqa: FBT001 - a case
    """As without an agent: who is gone looks like who only says no more, and the application knows which it serves."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET + GET)
        if is_early:
            client.half_close()
        app = await made.app()
        await app.head()
        await app.say(OK)
        await app.head()
        if not is_early:
            client.half_close()
        assert await app.rest() == b""
        await app.say(OK)
        assert (await client.rest()).count(b"\r\n\r\nok") == 2
        assert len(made.live.http.origins) == 0

    scene(work)


def test_an_application_that_gives_up_a_client_that_is_gone_is_asked_no_more() -> None:
    """Its place is free then."""

    async def work(made: Scene) -> None:
        client = await made.client()
        await client.say(GET)
        app = await made.app()
        await app.head()
        client.close()
        assert await app.rest() == b""
        app.close()
        await until(lambda: not made.live.relays, "the end")
        assert [(row.status, row.reason) for row in made.requests()] == [(502, Reason.RESET_BY_UPSTREAM)]
        assert made.role.opened == 1

    scene(work)
