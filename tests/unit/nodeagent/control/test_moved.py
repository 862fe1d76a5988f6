"""Entries of the KV store beside a server's own: what counts to an agent that starts by then."""

import asyncio
import contextlib

import pytest

from nodeagent.catalog.state import CatalogState, IntentionRow, Place
from nodeagent.control.intentions import ENTRIES
from nodeagent.control.moved import shut, unmoved
from tests.support.by_request import row_of
from tests.support.loop import until
from tests.support.scripted_catalog import KEPT, ScriptedCatalog
from tests.support.scripted_rights import ScriptedRights
from tests.unit.nodeagent.control.test_follow import Scene, alone
from tests.unit.nodeagent.control.test_intention_hold import rows_of, said

LEFT = "the KV store says what the catalog's service-intentions lack: shop -> web (allow); these services take no calls here"
UNMOVED = "the catalog has service-intentions as entries now, which lack what the KV store says"


def alarms(scene: Scene) -> str:
    return "\n".join(scene.follower.alarms())


def place(scene: Scene) -> str:
    state = scene.follower.state()
    return state.intentions_in if state else "none yet"


def upgraded(peer: ScriptedCatalog) -> ScriptedRights:
    """A newer server, whose entries came of rows; the KV store says something else of `web`."""
    rights = ScriptedRights(peer, "api -> web allow", "api -> db allow")
    del peer.scripts[ENTRIES]
    peer.allow("api -> web", "api -> db")
    rights.keep("web", "shop allow")
    return rights


def started(script, *saved: IntentionRow, place: Place = "") -> None:
    """With an agent that starts with what it saved; nothing: it is new here."""

    async def scene(playing: Scene, peer: ScriptedCatalog) -> None:
        rights = upgraded(peer)
        if saved:
            playing.follower.remember(CatalogState(intentions=saved, intentions_in=place))
        task = asyncio.create_task(playing.follower.run())
        try:
            await script(playing, peer, rights)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    alone(scene)


def test_shut_destinations_take_no_calls() -> None:
    """Not by a more specific row either."""
    rows = (IntentionRow("*", "db", "allow"), IntentionRow("api", "web", "allow"), IntentionRow("cart", "web", "deny"))
    assert said(shut(rows, {"web", "till"})) == ["* -> db allow", "* -> till deny", "* -> web deny", "api -> web deny", "cart -> web deny"]
    assert [IntentionRow("*", "db", "deny"), IntentionRow("shop", "db", "deny")] == list(shut((row_of("shop", "db"),), {"db"}))
    assert shut(rows, ()) == rows


def test_some_of_what_is_lacking_is_named() -> None:
    rows = tuple(IntentionRow(f"s{n}", "web", "allow") for n in range(4))
    assert "s0 -> web (allow), s1 -> web (allow), s2 -> web (allow), …" in unmoved(rows)
    assert unmoved(()) == ""


def test_what_counted_before_counts_on() -> None:
    """The server was upgraded while the agent was away."""

    async def script(scene: Scene, peer: ScriptedCatalog, rights: ScriptedRights) -> None:
        await until(lambda: rows_of(scene) == ["api -> db allow", "shop -> web allow"], "the entry")
        assert (UNMOVED in alarms(scene), place(scene)) == (True, "rows")
        peer.allow("shop -> web", "api -> db")
        rights.put("shop -> web allow", "api -> db allow")
        await until(lambda: place(scene) == "entries", "the entries")
        assert rows_of(scene) == ["api -> db allow", "shop -> web allow"]

    started(script, IntentionRow("shop", "web", "allow"), place="rows")


def test_what_is_left_in_the_kv_store_does_not_come_back() -> None:
    """The server's own entries counted: a start is no reason to believe the KV store, which others may write, or what was revoked since."""

    async def script(scene: Scene, peer: ScriptedCatalog, rights: ScriptedRights) -> None:
        await until(lambda: rows_of(scene) == ["api -> db allow", "api -> web allow"], "the entries")
        assert alarms(scene) == ""
        assert not any(path.startswith(KEPT) for _, path, _ in peer.asked)

    started(script, IntentionRow("shop", "web", "allow"), place="entries")


def test_a_new_host_believes_neither_where_they_differ() -> None:
    """Until they agree; it keeps looking, as nobody tells it. Other destinations are as the entries have them."""

    async def script(scene: Scene, peer: ScriptedCatalog, rights: ScriptedRights) -> None:
        await until(lambda: rows_of(scene) == ["api -> db allow", "* -> web deny", "api -> web deny"], "nobody may call it")
        await until(lambda: LEFT in alarms(scene), "the alarm")
        assert place(scene) == ""  # to be looked at again by whoever starts with it
        rights.keep("web")
        await until(lambda: rows_of(scene) == ["api -> db allow", "api -> web allow"], "the entries")
        assert alarms(scene) == ""
        rights.keep("web", "shop allow")
        rights.put("api -> web allow")
        peer.allow("api -> web")
        await until(lambda: rows_of(scene) == ["api -> web allow"], "the entries, which count from then on")

    started(script)


@pytest.mark.parametrize("entry", ["api allow", "api deny"])
def test_a_new_host_that_finds_the_same_believes_the_entries(entry: str) -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = upgraded(peer)
        rights.keep("web", entry)
        if entry.endswith("deny"):
            peer.set(ENTRIES, [{"Name": "web", "Sources": [{"Name": "api", "Action": "deny"}, {"Name": "shop", "Action": "allow"}]}])
        task = asyncio.create_task(scene.follower.run())
        await until(scene.follower.state, "the state")
        assert ("* -> web deny" in rows_of(scene), alarms(scene)) == (False, "")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    alone(script)
