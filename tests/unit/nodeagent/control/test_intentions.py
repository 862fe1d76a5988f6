"""Where a catalog keeps intentions, and whether an empty list is believed, against a scripted one."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.intentions import ENTRIES, IntentionSource, lost_destinations, why_unproven
from tests.support.loop import run, until
from tests.support.scripted_catalog import ScriptedCatalog
from tests.unit.nodeagent.control.test_follow import Scene, played

MATCH = "/v1/connect/intentions/match"
ALLOW = {"SourceName": "shop", "DestinationName": "web", "Action": "allow", "SourceNS": "default", "DestinationNS": "default"}


def unknown_kind(_request: web.Request) -> web.Response:
    """As Consul 1.8.7."""
    return web.Response(status=500, text="invalid config entry kind: service-intentions")


def read_by(rights: set[str]):
    """A match as Consul with default deny answers it."""

    def answer(request: web.Request) -> web.Response:
        name = request.query["name"]
        return web.json_response({name: None}) if name in rights else web.Response(status=403, text="Permission denied")

    return answer


def with_client(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, catalog)

    run(scene)


def test_rows_are_read_where_the_server_keeps_no_entries() -> None:
    """Found out by asking; the first answer comes at once whatever the index was."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        await source.read(0, 1.0)
        peer.scripts[ENTRIES] = unknown_kind
        peer.set(LEGACY_INTENTIONS, [ALLOW])
        answer = await source.read(99, 60.0)
        assert source.is_legacy
        assert [row.source for row in source.parse(answer)] == ["shop"]
        assert answer.index is None
        assert [index for _, path, index in peer.asked if path == LEGACY_INTENTIONS] == [""]
        await source.read(3, 60.0)
        assert peer.asked[-1] == ("GET", LEGACY_INTENTIONS, "3")

    with_client(script)


def test_entries_are_read_again_after_an_upgrade_of_the_server() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        peer.scripts[ENTRIES] = unknown_kind
        peer.set(LEGACY_INTENTIONS, [])
        await source.read(0, 1.0)
        peer.scripts.clear()
        peer.allow("cart -> web")
        answer = await source.read(50, 60.0)
        assert not source.is_legacy
        assert [row.source for row in source.parse(answer)] == ["cart"]

    with_client(script)


def test_a_server_that_fails_is_none_that_keeps_no_entries() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        peer.scripts[ENTRIES] = lambda _: web.Response(status=500, text="No cluster leader")
        with pytest.raises(CatalogRefused, match="No cluster leader"):
            await source.read(0, 1.0)
        assert not source.is_legacy

    with_client(script)


def test_the_mesh_follows_them() -> None:
    """Changes of rows arrive as those of entries do."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        await until(lambda: scene.follower.state() is not None, "the state")
        peer.scripts[ENTRIES] = unknown_kind
        peer.set(LEGACY_INTENTIONS, [ALLOW])
        peer.set(ENTRIES, [])  # who waits there asks again
        await until(lambda: scene.pairs() == ["shop -> web"], "the row")
        assert scene.follower.found == ("intentions as rows",)
        peer.set(LEGACY_INTENTIONS, [ALLOW, ALLOW | {"SourceName": "cart"}])
        await until(lambda: scene.pairs() == ["cart -> web", "shop -> web"], "the second")

    played(script)


def test_a_token_that_lost_its_rights_takes_no_intention_away() -> None:
    """Consul's answer is 200 and empty. The list is believed again when the token may read."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[MATCH] = read_by(set())
        peer.allow("shop -> web", "shop -> db")
        await until(lambda: len(scene.pairs()) == 2, "the intentions")
        peer.allow()
        await until(scene.follower.alarms, "the alarm")
        assert "all intentions of 2 services vanished (db, web)" in scene.follower.alarms()[0]
        assert "may not read the intentions of db" in scene.follower.alarms()[0]
        assert len(scene.pairs()) == 2
        peer.scripts[MATCH] = read_by({"db", "web"})
        await until(lambda: scene.pairs() == [], "the truth")
        assert scene.follower.alarms() == ()

    played(script)


def test_a_right_that_is_lost_for_one_service_holds_its_intentions() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[MATCH] = read_by({"db"})
        peer.allow("shop -> web", "shop -> db")
        await until(lambda: len(scene.pairs()) == 2, "the intentions")
        peer.allow("shop -> db")
        await until(scene.follower.alarms, "the alarm")
        assert len(scene.pairs()) == 2
        peer.allow("shop -> web")
        await until(lambda: scene.pairs() == ["shop -> web"], "a change that is proven")

    played(script)


def test_what_was_saved_is_not_lost_by_a_restart_with_a_token_without_rights() -> None:
    """The first answer after a start is believed no more than any other."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.remember(CatalogState(intentions=(IntentionRow("shop", "web", "allow"),)))
        peer.scripts[MATCH] = read_by(set())
        peer.set(ENTRIES, [])
        await until(scene.follower.alarms, "the alarm")
        assert scene.follower.state() is None

    played(script)


def test_a_first_start_with_such_a_token_denies_and_says_why() -> None:
    """There is nothing to go on by; the alarm ends when the token may read."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[MATCH] = read_by(set())
        peer.set(ENTRIES, [])
        await until(scene.follower.alarms, "the alarm")
        assert "may not read the intentions of every service" in scene.follower.alarms()[0]
        await until(lambda: scene.follower.state() is not None, "the state all the same")
        peer.scripts[MATCH] = read_by({"nodeagent-proof"})
        await until(lambda: scene.follower.alarms() == (), "no alarm any more")

    played(script)


def test_of_many_services_some_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INTENTION_PROOFS", 3)

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts[MATCH] = lambda _: web.json_response({})
        assert await why_unproven(catalog, ["*", *(f"s{n}" for n in range(10))]) == ""
        assert len(peer.asked) == 3

    with_client(script)


@pytest.mark.parametrize(("status", "is_proven"), [(200, True), (401, True), (404, True), (405, True), (403, False), (500, False)])
def test_a_catalog_without_that_question_proves_it_by_the_token(status: int, is_proven: bool) -> None:  # noqa: FBT001 - a table's column
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts["/v1/acl/token/self"] = lambda _: web.Response(status=status, text="{}")
        assert (await why_unproven(catalog, ["web"]) == "") is is_proven

    with_client(script)


def test_a_question_that_fails_is_no_proof() -> None:
    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        peer.scripts[MATCH] = lambda _: web.Response(status=500, text="no leader")
        with pytest.raises(CatalogRefused, match="no leader"):
            await why_unproven(catalog, ["web"])

    with_client(script)


def test_destinations_are_lost_whole() -> None:
    before = [IntentionRow("a", "web", "allow"), IntentionRow("b", "web", "deny"), IntentionRow("a", "db", "allow")]
    assert lost_destinations(before, (before[0],)) == ("db",)
