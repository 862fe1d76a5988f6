"""Where a catalog keeps intentions, and what of that counts, against a scripted one."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from nodeagent.catalog.kept_intentions import KeptIntentions
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.intentions import ENTRIES, IntentionSource
from tests.support import newer_consul
from tests.support.loop import run, until
from tests.support.scripted_catalog import KEPT, NODES, ROOTS, SELF, SERVICES, ScriptedCatalog, instance
from tests.support.scripted_rights import MATCH, ScriptedRights, refuse, unknown_kind
from tests.unit.nodeagent.control.test_follow import HOST1, Scene, alone, played
from tests.unit.nodeagent.control.test_intention_hold import rows_of

ALLOW = {"SourceName": "shop", "DestinationName": "web", "Action": "allow", "SourceNS": "default", "DestinationNS": "default"}
RIGHT = 'give it key_prefix "nodeagent/config/" { policy = "read" }'


def with_client(script) -> None:
    async def scene() -> None:
        async with ScriptedCatalog() as peer, Catalog(CatalogTable(peer.address, token_file=""), lambda: 1000.0) as catalog:
            await script(peer, catalog)

    run(scene)


def test_permissions_that_did_not_change_are_not_read_again() -> None:
    """Of a list that comes anew with each change of any intention."""
    said = [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        rows = []
        for action in ("allow", "deny"):
            peer.set(ENTRIES, [{"Name": "web", "Sources": [{"Name": "shop", "Permissions": said}, {"Name": "cart", "Action": action}]}])
            await source.take(await source.read(0, 1.0))
            rows.append({row.source: row for row in source.in_force() or ()})
        assert [each["cart"].action for each in rows] == ["allow", "deny"]
        assert rows[0]["shop"].permissions
        assert rows[0]["shop"].permissions is rows[1]["shop"].permissions

    with_client(script)


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
        peer.set(LEGACY_INTENTIONS, [ALLOW | {"SourceName": "cart"}])  # newer ones show their entries here, too
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


def test_a_server_that_has_not_all_rows_as_entries_yet_is_no_upgrade() -> None:
    """While servers are upgraded one by one: rows are read on until the entries have each of them, and each deny as a deny."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        peer.scripts[ENTRIES] = unknown_kind
        peer.set(LEGACY_INTENTIONS, [ALLOW, ALLOW | {"SourceName": "cart", "Action": "deny"}])
        await source.read(0, 1.0)
        peer.scripts.clear()
        for pairs in ((), ("shop -> web",), ("shop -> web", "cart -> web")):
            peer.allow(*pairs)
            answer = await source.read(0, 60.0)
            assert source.is_legacy
            assert [(row.source, row.action) for row in source.parse(answer)] == [("cart", "deny"), ("shop", "allow")]
        peer.set(ENTRIES, [{"Name": "web", "Sources": [{"Name": "cart", "Action": "deny"}, {"Name": "shop", "Action": "allow"}]}])
        await source.read(0, 60.0)
        assert not source.is_legacy

    with_client(script)


@pytest.mark.parametrize(("status", "is_entries"), [(404, True), (501, True), (403, False), (500, False)])
def test_a_server_that_keeps_no_rows_any_more_has_entries(status: int, is_entries: bool) -> None:  # noqa: FBT001 - a table's column
    """What is lost then is asked for by itself; a refusal is no such server."""

    async def script(peer: ScriptedCatalog, catalog: Catalog) -> None:
        source = IntentionSource(catalog)
        peer.scripts[ENTRIES] = unknown_kind
        peer.set(LEGACY_INTENTIONS, [ALLOW])
        await source.read(0, 1.0)
        peer.scripts.clear()
        peer.scripts[LEGACY_INTENTIONS] = lambda _: web.Response(status=status, text="no")
        with contextlib.nullcontext() if is_entries else pytest.raises(CatalogRefused):
            await source.read(0, 60.0)
        assert source.is_legacy is not is_entries

    with_client(script)


# --- entries in the KV store of a Consul that keeps rows ----------------------------------------------------------------


def alarms(scene: Scene) -> str:
    return "\n".join(scene.follower.alarms())


def test_an_entry_stands_in_the_place_of_its_destinations_rows() -> None:
    """And what it hides is named."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> web allow", "shop -> web allow", "api -> db allow")
        await until(lambda: len(rows_of(scene)) == 3, "the rows")
        rights.keep("web", "shop allow")
        await until(lambda: rows_of(scene) == ["api -> db allow", "shop -> web allow"], "the entry")
        assert "rows of intentions are not in force, as entries in the KV store say otherwise: api -> web (allow)" in alarms(scene)
        rights.keep("web")
        await until(lambda: rows_of(scene) == ["api -> db allow", "api -> web allow", "shop -> web allow"], "the rows again")
        assert alarms(scene) == ""

    played(script)


def test_an_entry_that_is_not_understood_denies_its_destination() -> None:
    """It never makes way for rows, which may be wider."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> web allow", "api -> db allow")
        await until(lambda: len(rows_of(scene)) == 2, "the rows")
        rights.keep("web", "api allow", Quota=7)
        await until(lambda: rows_of(scene) == ["api -> db allow", "* -> web deny"], "the deny")

    played(script)


def test_rows_are_not_in_force_before_the_kv_store_was_heard() -> None:
    """An agent that starts must not be open for as long as an answer takes, or fails."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> web allow")
        peer.scripts[KEPT] = lambda _: web.Response(status=500, text="slow")
        await until(lambda: (LEGACY_INTENTIONS in {path for _, path, _ in peer.asked}) and scene.follower.complaints(), "the rows")
        assert scene.follower.state() is None
        del peer.scripts[KEPT]
        rights.keep("web", "api deny")
        await until(lambda: rows_of(scene) == ["api -> web deny"], "both")

    played(script)


def test_a_list_that_is_refused_is_a_problem_and_opens_nothing() -> None:
    """As with enable_key_list_policy."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        ScriptedRights(peer, "api -> web allow")
        peer.scripts[KEPT] = refuse
        await until(lambda: "/v1/kv/nodeagent/config/service-intentions" in "".join(scene.follower.complaints()), "the complaint")
        assert scene.follower.state() is None

    played(script)


def test_an_entry_that_vanishes_with_a_right_stays_in_force() -> None:
    """Also where no row is lost by that: Consul 1.8 says 404 of the whole list, and that the store is empty looks the same."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> web allow", "shop -> web deny", "api -> db allow")
        rights.keep("web", "shop deny")
        await until(lambda: rows_of(scene) == ["api -> db allow", "shop -> web deny"], "the entry")
        rights.may_read_keys(may=False)
        await until(lambda: RIGHT in alarms(scene), "the alarm")
        for rows in ("api -> db deny", "api -> db allow"):  # news of others, again and again
            rights.put("api -> web allow", "shop -> web deny", rows)
            await until(lambda rows=rows: rows_of(scene) == [rows, "shop -> web deny"], "news of another destination")
        assert RIGHT in alarms(scene)
        rights.may_read_keys(may=True)
        await until(lambda: RIGHT not in alarms(scene), "the right")
        assert rows_of(scene) == ["api -> db allow", "shop -> web deny"]
        rights.keep("web")
        await until(lambda: "api -> web allow" in rows_of(scene), "an end that is proven")

    played(script)


def test_a_service_of_this_host_takes_no_calls_while_its_key_may_not_be_read() -> None:
    """What was never shown cannot be missed: it is asked for once, whether or not anything is there."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow")
        rights.keep("db", "api deny")
        rights.may_read_keys(may=False)
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: rows_of(scene) == ["* -> db deny"], "nobody may call it")
        await until(lambda: RIGHT in alarms(scene), "the alarm")
        rights.may_read_keys(may=True)
        await until(lambda: rows_of(scene) == ["api -> db deny"], "the truth")
        await until(lambda: RIGHT not in alarms(scene), "no alarm any more")

    played(script)


@pytest.mark.parametrize("entry", ["shop allow", "api deny", "shop deny"])
def test_a_right_that_comes_needs_no_news_of_rows_or_keys(entry: str) -> None:
    """A watch hears nothing of it: the entry that is shown by then counts, and not the rows of before."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> db allow", "shop -> db deny", "api -> web allow")
        rights.keep("db", entry)
        rights.may_read_keys(may=False)
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: RIGHT in alarms(scene), "the alarm")
        rights.may_read_keys(may=True, is_told=False)
        await until(lambda: RIGHT not in alarms(scene), "the right")
        source, action = entry.split()
        for _ in range(2):
            await until(lambda: rows_of(scene) == [f"{source} -> db {action}", "api -> web allow"], "the entry alone")
            rights.put("api -> db allow", "shop -> db deny", "api -> web allow", "till -> db allow")

    played(script)


@pytest.mark.parametrize("saved", [("shop -> db deny",), ("shop -> db deny", "cart -> db allow")])
def test_a_restart_without_the_right_keeps_what_was_saved(saved: tuple[str, ...]) -> None:
    """Also of a service whose instances cannot be read, which is asked for by nobody else."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> db allow", "shop -> db allow")
        rights.keep("db", "shop deny", "cart allow")
        rights.may_read_keys(may=False)
        rows = tuple(IntentionRow(source, name, "deny" if action == "deny" else "allow") for source, _, name, action in map(str.split, saved))
        scene.follower.remember(CatalogState(intentions=rows))
        task = asyncio.create_task(scene.follower.run())
        await until(lambda: RIGHT in alarms(scene), "the alarm")
        assert rows_of(scene) == sorted(saved)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    alone(script)


def test_after_an_upgrade_of_the_server_the_kv_store_counts_until_the_entries_say_the_same() -> None:
    """The server makes entries of its rows, and these may be wider."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> web allow")
        rights.keep("web", "shop allow")
        await until(lambda: rows_of(scene) == ["shop -> web allow"], "the entry")
        del peer.scripts[ENTRIES]
        peer.allow("api -> web")
        rights.put("api -> web allow")
        await until(lambda: "the catalog has service-intentions as entries now, which lack" in alarms(scene), "the alarm")
        assert rows_of(scene) == ["shop -> web allow"]
        peer.allow("shop -> web")
        rights.put("shop -> web allow")
        await until(lambda: scene.follower.found == (), "the entries")
        assert rows_of(scene) == ["shop -> web allow"]
        await until(lambda: alarms(scene) == "", "no alarm any more")

    played(script)


def test_a_newer_consul_need_not_let_the_kv_store_be_read() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        ScriptedRights(peer)
        peer.scripts |= {KEPT: refuse}
        del peer.scripts[ENTRIES]
        peer.allow("shop -> web")
        await until(lambda: rows_of(scene) == ["shop -> web allow"], "the entries")

    played(script)


def test_what_is_read_anew_is_not_older_than_what_was_heard_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a question of before a revocation comes after the watch has told of it."""
    read, reached, release = IntentionSource._read_kept, asyncio.Event(), asyncio.Event()

    async def slow(source: IntentionSource) -> KeptIntentions:
        found = await read(source)
        task = asyncio.current_task()
        if task and task.get_name() == ENTRIES and not reached.is_set():
            reached.set()
            await release.wait()
        return found

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow")
        rights.keep("web", "shop allow")
        peer.scripts[f"{KEPT}db"] = refuse
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: RIGHT in alarms(scene) and rows_of(scene) == ["* -> db deny", "shop -> web allow"], "the alarm")
        monkeypatch.setattr(IntentionSource, "_read_kept", slow)
        rights.put("* -> db allow", "api -> till allow")
        await until(reached.is_set, "the question")
        del peer.scripts[f"{KEPT}db"]
        rights.keep("web", "shop deny")
        count = sum(path == KEPT for _, path, _ in peer.asked)
        await until(lambda: sum(path == KEPT for _, path, _ in peer.asked) > count, "the watch")
        await asyncio.sleep(0.3)  # in which it takes what it hears, if it may
        release.set()
        await asyncio.sleep(0.3)
        await until(lambda: alarms(scene) == "" and rows_of(scene) == ["* -> db allow", "api -> till allow", "shop -> web deny"], "the revocation")

    played(script)


# --- a newer Consul, by what its documentation says --------------------------------------------------------------------


def as_newer(peer: ScriptedCatalog) -> None:
    """Makes the catalog one of a newer Consul, with every field."""
    roots = peer.roots()
    peer.set(ROOTS, {**roots, "Roots": [{**root, **newer_consul.ROOT_FIELDS} for root in roots["Roots"]]})
    for path, value in {
        NODES: newer_consul.NODES, "/v1/health/service/web": newer_consul.HEALTH, ENTRIES: newer_consul.INTENTIONS, SELF: newer_consul.SELF,
        LEGACY_INTENTIONS: newer_consul.ROWS, "/v1/config/service-defaults": newer_consul.SERVICE_DEFAULTS,
        "/v1/config/proxy-defaults": newer_consul.PROXY_DEFAULTS, SERVICES: newer_consul.SERVICES,
    }.items():  # fmt: skip
        peer.set(path, value)
    peer.scripts |= {MATCH: lambda _: web.json_response({"web": newer_consul.ROWS})}


def test_a_newer_consul_is_followed_as_it_documents_itself() -> None:
    """Its own entries; virtual addresses, proxies and other meshes' sources are left out."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        as_newer(peer)
        state = await until(lambda: (state := scene.follower.state()) and state.intentions and state.instances.get("web") and state, "the state")
        assert rows_of(scene) == ["shop -> api deny", "* -> web deny", "cart -> web deny", "shop -> web allow"]
        (row,) = state.instances["web"]
        assert [str(address) for address in row.instance.addresses] == ["10.77.0.1:8000", "10.77.0.9:8000"]
        assert (row.instance.weight, row.instance.healthy, row.host.addresses) == (10, True, ("10.77.0.1", "fd77::1"))
        assert (state.protocols, state.default_protocol) == ({"web": "http"}, "http2")
        assert "intentions as rows" not in scene.follower.found

    played(script)
