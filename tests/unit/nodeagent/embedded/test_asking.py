"""Requests: parameters, tokens and the rules of blocking queries."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nodeagent import limits
from nodeagent.embedded import (
    agent_api,
    asking,
    catalog_api,
    checks_api,
    config_api,
    intentions_api,
    kv_api,
    rotation_api,
    tokens_api,
)
from nodeagent.embedded.asking import Answer, Found, authenticate, encoded, find, parse_wait, watch
from nodeagent.embedded.database import newest_index
from nodeagent.embedded.refusal import BadRequest, Forbidden, TooMany
from nodeagent.embedded.tokens import delete_token


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", limits.CONSUL_WAIT_S),
        ("10s", 10),
        ("5m", 300),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("10m", limits.CATALOG_WAIT_MAX_S),
        ("2h", limits.CATALOG_WAIT_MAX_S),
        ("0s", limits.CONSUL_WAIT_S),
    ],
)
def test_wait_is_consuls(text, seconds):
    assert parse_wait(text) == seconds


@pytest.mark.parametrize("text", ["10", "s", "-1s", "1 s", "1d", "1s;", "1e9s", "\u0663s", "9" * 99 + "s"])
def test_another_wait_is_refused(text):
    with pytest.raises(BadRequest, match="is not a duration"):
        parse_wait(text)


@pytest.mark.parametrize(("query", "says"), [({}, False), ({"x": ""}, True), ({"x": "1"}, True), ({"x": "y"}, True)])
def test_a_word_is_said_where_it_stands(desk, query, says):
    assert desk.ask(query=query).says("x") is says


@pytest.mark.parametrize("text", ["false", "False", "0"])
def test_a_no_that_consul_takes_for_a_yes_is_refused(desk, text):
    """DELETE with `?recurse=false` removes everything below a key there."""
    with pytest.raises(BadRequest, match=f"x={text} says yes to Consul"):
        desk.ask(query={"x": text}).says("x")


@pytest.mark.parametrize("bare", [True, False])
def test_truths_are_consuls(desk, bare):
    for text, truth in (("", bare), ("1", True), ("t", True), ("TRUE", True), ("0", False), ("F", False), ("False", False)):
        assert desk.ask(query={"x": text}).truth("x", bare=bare) is truth
    assert desk.ask().truth("x", bare=bare) is False
    with pytest.raises(BadRequest, match=r"\?x=yes: must be true or false"):
        desk.ask(query={"x": "yes"}).truth("x", bare=bare)


def test_number(desk):
    assert desk.ask(query={"cas": "12"}).number("cas") == 12
    assert desk.ask().number("cas") is None
    for text in ("", "-1", "1_0", "0x1", "\u0661", "9" * 19):
        with pytest.raises(BadRequest, match="is not a number"):
            desk.ask(query={"cas": text}).number("cas")


def test_tokens(desk):
    assert authenticate(desk.server, desk.secret).kind == "management"
    for secret, sentence in (("", "without a token"), ("x", "unknown or was revoked")):
        with pytest.raises(Forbidden, match=sentence):
            authenticate(desk.server, secret)


def test_no_secret_in_a_repr(desk):
    assert desk.secret not in repr(desk.ask())


TOPIC = ("service:web",)
WATCH = watch(TOPIC, lambda connection: Answer(newest_index(connection)))


def touch(desk, topic="service:web"):
    return desk.store.write(lambda change: change.touch(topic))


def test_without_an_index_it_answers_at_once(desk):
    found = asyncio.run(find(desk.ask(), WATCH))
    assert isinstance(found, Found)
    assert found.index == 1


def test_with_an_older_index_it_answers_at_once(desk):
    async def run():
        await touch(desk)
        return (await find(desk.ask(query={"index": "1"}), WATCH)).index

    assert asyncio.run(run()) == 3


def test_it_waits_for_its_own_topic_and_no_other(desk):
    async def run():
        waiting = asyncio.ensure_future(find(desk.ask(query={"index": "2"}), WATCH))
        await touch(desk, "service:db")
        assert not waiting.done()
        await touch(desk)
        return (await waiting).index

    assert asyncio.run(run()) == 4


def test_it_answers_when_the_time_is_up(desk):
    async def run():
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await find(desk.ask(query={"index": "2", "wait": "200ms"}), WATCH)
        return found.index, loop.time() - began

    index, took = asyncio.run(run())
    assert index == 1
    assert took >= 0.2


def test_an_index_from_the_future_does_not_wait(desk):
    """After a restored backup: the client sees the smaller index and starts anew."""
    assert asyncio.run(find(desk.ask(query={"index": "999999"}), WATCH)).index == 1


LATE = {
    "a token": (tokens_api.create, {"Policies": [{"Name": "global-management"}]}, {}, {}),
    "a value": (kv_api.put, b"{}", {}, {"key": "nodeagent/config/fault/web"}),
    "an intention": (intentions_api.put, {"Action": "allow"}, {"source": "shop", "destination": "web"}, {}),
    "an entry": (config_api.put, {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}, {}, {}),
    "a host": (catalog_api.register, {"Node": "host3", "Address": "10.0.0.3"}, {}, {}),
    "a host's end": (catalog_api.deregister, {"Node": "host1"}, {}, {}),
    "a service": (agent_api.register, {"Name": "web", "Port": 80}, {"node": "host1"}, {}),
    "a check": (checks_api.register, {"Name": "disk", "TTL": "9s"}, {"node": "host1"}, {}),
    "a step of the CA": (rotation_api.rotate, {"Step": "add"}, {}, {}),
}


@pytest.mark.parametrize(("handler", "body", "query", "path"), LATE.values(), ids=LATE)
def test_a_token_that_was_revoked_while_its_body_arrived_changes_nothing(desk, handler, body, query, path):
    """Else who has a request open on a stolen one makes himself another."""
    desk.call(catalog_api.register, body={"Node": "host1", "Address": "10.0.0.1"})
    ask = desk.ask(body=body, query=query, **path)

    async def late():
        accessor = authenticate(desk.server, desk.secret).accessor
        await desk.store.write(lambda change: delete_token(change, accessor, 0.0))
        left.append(desk.store.read(newest_index))
        return await ask.body()

    left = []
    with pytest.raises(Forbidden, match="was revoked"):
        asyncio.run(handler(replace(ask, body=late)))
    assert [desk.store.read(newest_index)] == left


def test_no_handler_writes_for_a_token_without_another_look_at_it():
    assert [path.name for path in Path(asking.__file__).parent.glob("*_api.py") if "store.write(" in path.read_text()] == []


def test_a_revoked_token_gets_no_answer_to_its_waiting_query(desk):
    async def run():
        accessor = authenticate(desk.server, desk.secret).accessor
        waiting = asyncio.ensure_future(find(desk.ask(query={"index": "2"}), WATCH))
        await desk.store.write(lambda change: delete_token(change, accessor, 0.0))
        await touch(desk)
        with pytest.raises(Forbidden, match="revoked"):
            await waiting

    asyncio.run(run())


def test_a_stopping_server_lets_queries_go_and_holds_no_more(desk):
    async def run():
        waiting = asyncio.ensure_future(find(desk.ask(query={"index": "2"}), WATCH))
        await asyncio.sleep(0)
        desk.store.watchers.close()
        await waiting
        await find(desk.ask(query={"index": "2"}), WATCH)

    asyncio.run(run())


def test_a_token_holds_so_many_queries(desk, monkeypatch):
    monkeypatch.setattr(limits, "BLOCKING_PER_TOKEN", 1)

    async def run():
        waiting = asyncio.ensure_future(find(desk.ask(query={"index": "2"}), WATCH))
        await asyncio.sleep(0)
        with pytest.raises(TooMany):
            await find(desk.ask(query={"index": "2"}), WATCH)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        desk.store.watchers.close()
        await find(desk.ask(query={"index": "2"}), WATCH)

    asyncio.run(run())


def test_an_index_is_never_zero(desk):
    assert asyncio.run(find(desk.ask(), watch((), lambda _: Answer(None)))).index == 1


def test_writes_between_reading_and_waiting_are_not_missed(desk):
    """Many writers and one reader that always asks with what it saw: it ends with the last index."""

    async def run():
        async def follow():
            seen = 0
            while seen < 41:
                seen = (await find(desk.ask(query={"index": str(seen)}), WATCH)).index
            return seen

        reader = asyncio.ensure_future(follow())
        await asyncio.gather(*(touch(desk) for _ in range(40)))
        return await reader

    assert asyncio.run(run()) >= 41


def test_who_waits_for_roots_hears_that_its_token_was_revoked(desk):
    """And nothing after that."""
    wanted = watch(("roots",), lambda _: Answer("revoked: you"), has_last_word=True)

    async def run():
        accessor = authenticate(desk.server, desk.secret).accessor
        index = desk.store.read(newest_index)
        waiting = asyncio.ensure_future(find(desk.ask(query={"index": str(index)}), wanted))
        await asyncio.sleep(0)
        await desk.store.write(lambda change: delete_token(change, accessor, 0.0))
        return (await waiting).answer.body

    assert asyncio.run(run()) == "revoked: you"
    with pytest.raises(Forbidden):
        authenticate(desk.server, desk.secret)


def test_a_list_is_read_beside_the_loop_with_its_index(desk):
    """Ten thousand rows take 150 ms."""
    here = threading.get_ident()

    def where(_connection):
        return Answer(threading.get_ident() == here)

    assert asyncio.run(find(desk.ask(), watch(("nodes",), where))).answer.body is True
    found = asyncio.run(find(desk.ask(), watch(("nodes",), where, is_list=True)))
    assert (bytes(found.answer.body), found.index >= 1) == (b"false", True)


def test_a_list_that_waits_is_answered_when_it_changes(desk):
    wanted = watch(("nodes",), lambda connection: Answer(newest_index(connection)), is_list=True)

    async def wait():
        index = (await find(desk.ask(), wanted)).index
        waiting = asyncio.create_task(find(desk.ask(query={"index": str(index)}), wanted))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await desk.store.write(lambda change: change.touch("nodes"))
        return index, await waiting

    index, found = asyncio.run(wait())
    assert found.index == int(bytes(found.answer.body)) > index


@pytest.mark.parametrize(("size", "is_here"), [(limits.CATALOG_BODY_AT_ONCE_BYTES, True), (limits.CATALOG_BODY_AT_ONCE_BYTES + 1, False)])
def test_a_large_body_is_parsed_beside_the_loop(desk, monkeypatch, size, is_here):
    where = []
    monkeypatch.setattr("nodeagent.embedded.asking.parse_object", lambda text: where.append(threading.get_ident()) or len(text))
    assert asyncio.run(desk.ask(body=b" " * size).json()) == size
    assert (where == [threading.get_ident()]) is is_here


def test_a_list_is_encoded_where_it_is_read(desk):
    rows = watch(("nodes",), lambda _: Answer([{"a": 1}]), is_list=True)
    for query, text in (({}, b'[{"a":1}]'), ({"pretty": ""}, b'[\n    {\n        "a": 1\n    }\n]')):
        assert bytes(asyncio.run(find(desk.ask(query=query), rows)).answer.body) == text
    many = [{"a": number} for number in range(limits.DECODE_ROWS + 1)]
    for wanted in ([], many[:1], many[: limits.DECODE_ROWS], many):
        text = bytes(encoded(list(wanted), is_pretty=False))
        assert json.loads(text) == wanted
        assert text == msgspec.json.encode(wanted)
    raw = watch(("nodes",), lambda _: Answer(b"x", 404), is_list=True)
    assert asyncio.run(find(desk.ask(), raw)).answer == Answer(b"x", 404)
