"""Where a catalog keeps intentions, against a scripted one."""

import contextlib

import pytest
from aiohttp import web

from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.control.intentions import ENTRIES, IntentionSource
from tests.support.loop import run, until
from tests.support.scripted_catalog import ScriptedCatalog
from tests.support.scripted_rights import unknown_kind
from tests.unit.nodeagent.control.test_follow import Scene, played

ALLOW = {"SourceName": "shop", "DestinationName": "web", "Action": "allow", "SourceNS": "default", "DestinationNS": "default"}


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
