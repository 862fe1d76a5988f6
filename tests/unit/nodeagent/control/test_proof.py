"""What proves that a catalog shows all, against scripted answers."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.state import IntentionRow
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.proof import (
    ANYBODY,
    actions_of,
    completed,
    doubts_of,
    read_intentions_to,
    service_doubt,
    service_doubts,
    unlisted,
)
from tests.support.by_request import row_of
from tests.support.loop import run, until
from tests.support.scripted_catalog import NODES, SELF, SERVICES, ScriptedCatalog, instance, node
from tests.support.scripted_rights import CONSUL, MATCH, ScriptedRights, legacy_row
from tests.unit.nodeagent.control.test_follow import HOST2, Scene, played

CHAIN = "/v1/discovery-chain/web"
ALLOW, DENY = IntentionRow("shop", "web", "allow"), IntentionRow("shop", "web", "deny")


def with_client(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            peer.set(NODES, [node("host1", "10.77.0.1")])
            await script(peer, catalog)

    run(scene)


async def doubts_about(catalog: Catalog, destinations, listed) -> dict[str, str]:
    return doubts_of(await read_intentions_to(catalog, destinations), actions_of(listed))


def status(code: int):
    return lambda _: web.Response(status=code, text="{}" if code == 200 else "no")


@pytest.mark.parametrize(
    ("shown", "listed", "expected"),
    [
        ((ALLOW,), (ALLOW,), ()), ((ALLOW,), (), (ALLOW,)), ((DENY,), (ALLOW,), (DENY,)), ((ALLOW,), (DENY,), ()),
        ((), (ALLOW,), ()), ((DENY,), (DENY, ALLOW), ()),
    ],
)  # fmt: skip
def test_a_list_may_say_more_or_deny_more(shown, listed, expected) -> None:
    assert unlisted(shown, actions_of(listed)) == expected


def test_a_list_is_completed_by_what_it_lacks() -> None:
    other = IntentionRow("cart", "web", "allow")
    assert completed((other, ALLOW), (DENY,)) == (other, DENY)
    assert completed((ALLOW,), (other,)) == (other, ALLOW)


@pytest.mark.parametrize(("code", "is_proven"), [(200, True), (401, False), (403, False), (404, False), (405, False), (501, False)])
def test_of_a_consul_only_the_answer_itself_proves_anything(code: int, is_proven: bool) -> None:  # noqa: FBT001 - a table's column
    """A proxy before it may answer 404 to everybody; and so may a token that is good for something else."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, CONSUL)
        peer.scripts |= {MATCH: status(code), CHAIN: status(code), "/v1/acl/token/self": status(404)}
        assert (await doubts_about(catalog, ["web"], ()) == {}) is is_proven
        assert (await service_doubt(catalog, "web", "host1") == "") is is_proven

    with_client(script)


@pytest.mark.parametrize("code", [403, 404])
def test_who_does_not_say_who_it_is_is_not_the_embedded_catalog(code: int) -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts |= {SELF: status(code), MATCH: status(404)}
        assert await doubts_about(catalog, ["web"], ())

    with_client(script)


def test_the_embedded_catalog_refuses_rather_than_leaves_out() -> None:
    """It is told by having no node's id."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        assert await doubts_about(catalog, ["web", "db"], ()) == {}
        assert await service_doubt(catalog, "web", "host1") == ""
        peer.scripts[SELF] = status(404)
        assert set(await doubts_about(catalog, ["web", "db"], ())) == {"web", "db"}
        assert "not served" in await service_doubt(catalog, "web", "host1")

    with_client(script)


def test_the_embedded_catalog_is_not_asked_for_each_of_many() -> None:
    """As after thousands of denies were deleted together."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts[MATCH] = lambda _: web.json_response({})
        names = [f"s{n}" for n in range(limits.INTENTION_PROOFS)]
        assert await doubts_about(catalog, names, ()) == {}
        assert {path for _, path, _ in peer.asked} == {MATCH}
        peer.asked.clear()
        assert await doubts_about(catalog, [*names, "one-more"], ()) == {}
        assert [path for _, path, _ in peer.asked] == [SELF]

    with_client(script)


@pytest.mark.parametrize("is_consul", [True, False])
def test_a_catalog_that_does_not_show_this_host_proves_nothing(is_consul: bool) -> None:  # noqa: FBT001 - a table's column
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        if is_consul:
            ScriptedRights(peer).show_service("web")
        assert "own registration" in await service_doubt(catalog, "web", "host9")

    with_client(script)


def test_what_is_shown_for_a_destination_counts_against_the_list() -> None:
    """Those of any destination, too."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, CONSUL)
        peer.scripts[MATCH] = lambda _: web.json_response({"web": [legacy_row("shop -> web deny"), legacy_row("* -> * deny")]})
        doubts = await doubts_about(catalog, ["web"], (DENY,))
        assert doubts["web"].startswith("* -> * (deny) is shown where web is asked for and not in the list")
        assert await doubts_about(catalog, ["web"], (DENY, IntentionRow("*", "*", "deny"))) == {}

    with_client(script)


def test_each_destination_is_judged_by_itself() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        ScriptedRights(peer).may_read(*(f"s{n}" for n in range(20) if n != 7))
        names = [*(f"s{n}" for n in range(20)), ANYBODY]
        assert set(await doubts_about(catalog, names, ())) == {"s7", ANYBODY}
        assert sum(path == MATCH for _, path, _ in peer.asked) == len(names)

    with_client(script)


def test_a_server_that_fails_proves_nothing_and_refutes_nothing() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, CONSUL)
        peer.scripts |= {MATCH: status(500), CHAIN: status(500)}
        with pytest.raises(CatalogRefused, match="500"):
            await doubts_about(catalog, ["web"], ())
        with pytest.raises(CatalogRefused, match="500"):
            await service_doubt(catalog, "web", "host1")

    with_client(script)


def test_a_service_that_the_token_may_not_read_any_more_is_kept_however_long_that_takes() -> None:
    """Consul shows none of its instances then, and does not list it; that this host's own row is shown says nothing of it."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer)
        rights.hide_service("db")
        peer.register("db", instance(HOST2, "db", 5432))
        await until(lambda: scene.services() == {"db": 1}, "the service")
        peer.set("/v1/health/service/db", [])
        peer.set(SERVICES, {})
        await until(scene.follower.alarms, "the alarm")
        assert 'give it service "db" { policy = "read" }' in scene.follower.alarms()[0]
        for _ in range(3):
            scene.elapsed += limits.HOLD_BACK_S
            asked = len(peer.asked)
            await until(lambda now=asked: len(peer.asked) > now + 3, "another round")
            assert scene.services() == {"db": 1}
        rights.show_service("db")
        await until(lambda: scene.services() == {} and not scene.follower.alarms(), "the truth")

    played(script)


def test_a_service_that_moves_is_followed_while_connect_is_off() -> None:
    """A Consul without Connect answers 500 for every chain: what went is kept, what came counts, and the cure is named."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        ScriptedRights(peer)
        off = "Connect must be enabled in order to use this endpoint"
        peer.scripts["/v1/discovery-chain/db"] = lambda _: web.Response(status=500, text=off)
        peer.register("db", instance(HOST2, "db", 5432))
        await until(lambda: scene.services() == {"db": 1}, "the service")
        peer.set("/v1/health/service/db", [instance(HOST2, "db", 5433) | {"Service": {"Service": "db", "ID": "db-2", "Port": 5433}}])
        await until(lambda: scene.services() == {"db": 2}, "the new one beside the old")
        await until(lambda: any("db" in alarm for alarm in scene.follower.alarms()), "the alarm")
        assert off in scene.follower.alarms()[0]
        assert "connect { enabled = true }" in scene.follower.alarms()[0]
        peer.scripts["/v1/discovery-chain/db"] = lambda _: web.json_response({"Chain": {}})
        await until(lambda: scene.services() == {"db": 1} and not scene.follower.alarms(), "the truth")

    played(script)


def test_of_many_services_the_hosts_are_read_once_and_the_embedded_catalog_is_asked_who_it_is() -> None:
    names = [f"s{number}" for number in range(20)]

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        assert await service_doubts(catalog, names, "host1") == dict.fromkeys(names, "")
        assert [path for _, path, _ in peer.asked] == [SELF, NODES]
        assert "own registration" in (await service_doubts(catalog, names, "host2"))["s7"]
        assert await service_doubts(catalog, (), "host1") == {}

    with_client(script)


def test_of_a_consul_each_of_many_services_is_proven_by_itself() -> None:
    names = [f"s{number}" for number in range(20)]

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, CONSUL)
        peer.scripts |= {f"/v1/discovery-chain/{name}": status(403 if name == "s7" else 200) for name in names}
        doubts = await service_doubts(catalog, names, "host1")
        assert {name for name, why in doubts.items() if why} == {"s7"}
        assert 'service "s7"' in doubts["s7"]
        assert sum(path == NODES for _, path, _ in peer.asked) == 1

    with_client(script)


@pytest.mark.parametrize(
    ("host", "may_read_all", "draw", "asked", "proven"),
    [("host1", True, 0.0, 12, 10), ("host1", False, 0.0, 6, 1), ("host1", False, 0.5, 6, 0), ("host1", False, 0.9, 6, 1), ("host2", True, 0.0, 1, 0)],
)
def test_of_very_many_a_few_are_asked_for_where_all_would_be_refused(host, may_read_all, draw, asked, proven, monkeypatch) -> None:
    """Others each time: what is really gone goes then. Where this host is not shown either, nothing is."""
    monkeypatch.setattr(limits, "SERVICE_PROOFS", 4)
    names = [f"s{number}" for number in range(10)]

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.set(SELF, CONSUL)
        for name in (*names, ANYBODY):
            peer.scripts[f"/v1/discovery-chain/{name}"] = status(200 if name == "s2" or may_read_all else 403)
        doubts = await service_doubts(catalog, names, host, draw)
        assert sum(path != SELF for _, path, _ in peer.asked) == asked
        assert sorted(doubts) == names
        assert sum(not why for why in doubts.values()) == proven
        assert ("are asked for at a time" in doubts["s4"]) is not may_read_all

    with_client(script)


def test_who_allows_some_requests_is_between_allow_and_deny() -> None:
    """A list that says less than what is shown for the destination is not all of it."""
    some = row_of("shop", "web")
    table = {(some, ALLOW): True, (some, DENY): False, (some, some): False, (ALLOW, some): True, (DENY, some): True}
    assert table == {(shown, listed): bool(unlisted((shown,), actions_of((listed,)))) for shown, listed in table}
