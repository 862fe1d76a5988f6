"""An entry that many others hang on is checked beside the writer, and against what changed meanwhile in its turn."""

import asyncio
import threading

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded import ahead, config_api, graph, kv_api
from nodeagent.embedded.config_entries import delete_entry, put_entry, read_entry
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.entries import normal_entry
from nodeagent.embedded.refusal import BadRequest, Forbidden
from nodeagent.embedded.tokens import delete_token, find_caller

GLOBAL = {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}
TCP = GLOBAL | {"Config": {"protocol": "tcp"}}
GRPC = GLOBAL | {"Config": {"protocol": "grpc"}}
HTTP = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
RESOLVER = {"Kind": "service-resolver", "Name": "web", "Redirect": {"Service": "shop"}}


def router(name):
    return {"Kind": "service-router", "Name": name, "Routes": [{"Destination": {"NumRetries": 2}}]}


def stored(desk, entry=GLOBAL):
    found = desk.store.read(lambda connection: read_entry(connection, entry["Kind"], entry["Name"]))
    return found and found.value


@pytest.fixture
def looks(desk, monkeypatch):
    """What others do while it is looked at, one list for each look; gives how often it was."""
    plan, seen = [], []
    other = open_database(desk.directory / "catalog.db")

    def look(*asked):
        real(*asked)
        for make in plan[len(seen)] if len(seen) < len(plan) else ():
            commit(other, make)
        seen.append(asked[1])

    real = ahead.check_graph
    desk.call(config_api.put, body=GLOBAL)
    monkeypatch.setattr(ahead, "check_graph", look)

    def planned(*each_look):
        seen.clear()
        plan[:] = each_look
        return seen

    yield planned
    other.close()


def writing(*entries):
    return [lambda change, entry=entry: put_entry(change, normal_entry(entry)) for entry in entries]


def removing(kind, name):
    return [lambda change: delete_entry(change, kind, name)]


def test_others_write_while_it_is_looked_at(desk, monkeypatch):
    """The look goes on until the other has written."""
    has_written, is_looking = threading.Event(), threading.Event()
    real = graph.reference_faults

    def look(*args, **more):
        is_looking.set()
        assert has_written.wait(20)
        return real(*args, **more)

    async def run():
        asking = asyncio.create_task(desk.acall(config_api.put, body=GLOBAL))
        assert await asyncio.to_thread(is_looking.wait, 20)
        async with asyncio.timeout(10):
            assert await desk.acall(kv_api.put, body=b"x", key="a") is True
        has_written.set()
        return await asking

    monkeypatch.setattr(graph, "reference_faults", look)
    assert asyncio.run(run()) is True
    assert stored(desk) == GLOBAL


def test_what_came_meanwhile_must_go_together_with_it(desk, looks):
    """Each is well with what was there when it was looked at."""
    seen = looks(writing(router("web")))
    with pytest.raises(BadRequest, match="service-router web: Routes: the protocol of web is tcp"):
        desk.call(config_api.put, body=TCP)
    assert (stored(desk), len(seen)) == (GLOBAL, 1)


def test_a_protocol_that_came_meanwhile_counts_for_those_who_lead_there(desk, looks):
    desk.call(config_api.put, body=RESOLVER)
    looks(writing(HTTP | {"Name": "shop"}))
    with pytest.raises(BadRequest, match="service-resolver web: Redirect: shop speaks http, and web speaks grpc"):
        desk.call(config_api.put, body=GRPC)


def test_what_came_meanwhile_and_fits_stops_nothing_and_costs_no_second_look(desk, looks):
    seen = looks(writing(router("web"), RESOLVER))
    assert desk.call(config_api.put, body=GRPC) is True
    assert (stored(desk), len(seen)) == (GRPC, 1)


@pytest.mark.parametrize("meanwhile", [removing("service-defaults", "web"), writing(GLOBAL | {"Meta": {"a": "b"}})])
def test_where_it_cannot_be_told_what_changed_it_is_looked_at_again(desk, looks, meanwhile):
    """The service-defaults that go are what the router stood on."""
    desk.call(config_api.put, body=HTTP)
    seen = looks(meanwhile)
    assert desk.call(config_api.put, body=GRPC) is True
    assert (stored(desk), len(seen)) == (GRPC, 2)


def test_what_goes_meanwhile_counts(desk, looks):
    for entry in (HTTP, router("web")):
        desk.call(config_api.put, body=entry)
    looks(removing("service-defaults", "web"))
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        desk.call(config_api.put, body=TCP)


def test_many_changes_are_looked_at_beside_the_writer(desk, looks, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_MEANWHILE", 2)
    seen = looks(writing(*(HTTP | {"Name": f"s{n}"} for n in range(3))))
    assert desk.call(config_api.put, body=GRPC) is True
    assert len(seen) == 2


@pytest.fixture
def overtaken(desk, looks):
    """A router on its service's protocol, which is removed and written again at each look; gives what plans the last one otherwise."""
    for entry in (HTTP, router("web")):
        desk.call(config_api.put, body=entry)
    again = removing("service-defaults", "web") + writing(HTTP)
    return lambda last: looks(*[again] * (limits.CATALOG_LOOKS - 1), again + last)


def test_who_is_overtaken_each_time_is_looked_at_in_its_turn(desk, overtaken):
    """The token of one service keeps no operator from what holds for all."""
    seen = overtaken([])
    assert desk.call(config_api.put, body=GRPC) is True
    assert (stored(desk), len(seen)) == (GRPC, limits.CATALOG_LOOKS + 1)


def test_what_went_before_its_turn_counts(desk, overtaken):
    overtaken(removing("service-defaults", "web"))
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        desk.call(config_api.put, body=TCP)
    assert stored(desk) == GLOBAL


def test_what_would_change_nothing_is_not_looked_at(desk, looks):
    seen = looks()
    assert desk.call(config_api.put, body=GLOBAL) is True
    assert desk.call(config_api.put, body=TCP, query={"cas": "1"}) is False
    assert desk.call(config_api.delete, query={"cas": "1"}, kind="proxy-defaults", name="global") is False
    assert seen == []


def test_kinds_that_concern_few_take_their_turn_at_once(desk, looks):
    seen = looks()
    assert desk.call(config_api.put, body=RESOLVER) is True
    assert seen == [Key("service-resolver", "web")]


def test_a_service_and_a_splitter_are_looked_at_ahead(desk, looks):
    split = {"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 100, "Service": "shop"}]}
    looks(writing(split | {"Name": "shop", "Splits": [{"Weight": 100, "Service": "web"}]}))
    with pytest.raises(BadRequest, match="service-splitter web: Splits: they lead in a circle: web -> shop -> web"):
        desk.call(config_api.put, body=split)


@pytest.mark.parametrize("entry", [GRPC, RESOLVER])
def test_a_token_that_was_revoked_while_its_entry_was_looked_at_writes_nothing(desk, looks, entry):
    """That may take seconds, and whoever revokes one has the last word."""
    accessor = desk.store.read(lambda connection: find_caller(connection, desk.secret)).accessor
    revoking = [lambda change: delete_token(change, accessor, 0.0)]
    if entry == GRPC:
        looks(revoking)
    else:
        asyncio.run(desk.store.write(revoking[0]))
    with pytest.raises(Forbidden, match="was revoked"):
        desk.call(config_api.put, body=entry)
    assert stored(desk, entry) == (GLOBAL if entry == GRPC else None)
