"""Which intentions are in force, against a scripted Consul that leaves out what the token may not read."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.catalog.legacy_intentions import LEGACY_INTENTIONS
from nodeagent.catalog.state import CatalogState, IntentionRow
from nodeagent.control.intention_hold import IntentionHold, asked_about, closed, held_to, lost_rows
from nodeagent.errors import CatalogError
from tests.support.authorized import Authorized
from tests.support.by_request import ADMIN_NOT, row_of
from tests.support.loop import until
from tests.support.scripted_catalog import SERVICES, ScriptedCatalog, instance
from tests.support.scripted_rights import MATCH, ScriptedRights
from tests.unit.nodeagent.control.test_follow import HOST1, HOST2, Scene, alone, played

OPEN, DENY = IntentionRow("*", "db", "allow"), IntentionRow("api", "db", "deny")
SHOP = IntentionRow("shop", "web", "allow")


def said(rows) -> list[str]:
    return [f"{row.source} -> {row.destination} {row.action}" for row in rows or ()]


def rows_of(scene: Scene) -> list[str]:
    state = scene.follower.state()
    return said(state.intentions) if state else []


def asked(peer: ScriptedCatalog) -> int:
    return sum(path == MATCH for _, path, _ in peer.asked)


def test_a_row_is_lost_when_nothing_is_said_of_its_pair() -> None:
    """Another action is news; of a destination of which other rows are left one may be lost all the same."""
    flipped = IntentionRow("api", "db", "allow")
    assert lost_rows((OPEN, DENY, SHOP), (OPEN, SHOP)) == (DENY,)
    assert lost_rows((OPEN, DENY), (OPEN, flipped)) == ()


def test_each_destination_that_lost_a_deny_is_asked_for_and_some_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INTENTION_PROOFS", 2)
    denies = tuple(IntentionRow("api", f"d{n}", "deny") for n in range(4))
    others = tuple(IntentionRow("api", f"a{n}", "allow") for n in range(4))
    assert asked_about(denies + others) == ("d0", "d1", "d2", "d3", "a0", "a1")


def test_of_a_doubted_destination_what_was_known_stays_and_denies_are_added() -> None:
    """Also where the list says allow of a pair that was denied, and of one that was not known."""
    listed = (OPEN, IntentionRow("api", "db", "allow"), IntentionRow("cart", "db", "allow"), IntentionRow("till", "db", "deny"), SHOP)
    assert said(held_to((OPEN, DENY), listed, {"db"})) == ["* -> db allow", "api -> db deny", "till -> db deny", "shop -> web allow"]
    assert held_to((OPEN, DENY), listed, ()) == listed


def test_of_a_doubted_pair_no_request_is_allowed_that_may_have_been_denied() -> None:
    """What was allowed altogether may become less; of two that tell requests apart nobody compares what they allow."""
    some, other, closed_row = row_of("shop", "web"), row_of("shop", "web", ADMIN_NOT[1]), IntentionRow("shop", "web", "deny")
    for known, row, left in ((SHOP, some, some), (some, some, some), (some, other, closed_row), (None, some, closed_row), (some, closed_row, closed_row)):
        assert held_to((known,) if known else (), (row,), {"web"}) == (left,)
    assert held_to((some,), (SHOP,), {"web"}) == (some,)


def test_what_is_unproven_of_a_service_that_comes_here_allows_no_request() -> None:
    """As an allow of it does not count; and nothing less specific takes its place, also where the list has lost it since."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer)
        rights.may_read("zoo")
        hold, anybody = IntentionHold(scene.catalog), IntentionRow("*", "web", "allow")
        hold.remember((anybody,))
        await hold.take((anybody, row_of("shop", "web")))
        await hold.take((anybody,))
        assert [row.word for row in hold.rows or ()] == ["allow", "by request"]
        await hold.vouch("web", is_here=True)
        assert [row.word for row in hold.rows or ()] == ["allow", "deny"]

    alone(script)


def test_a_doubted_destination_of_which_nothing_was_known_takes_no_calls() -> None:
    assert said(closed(held_to((), (OPEN, SHOP), {"db"}), {"db"})) == ["* -> db deny", "shop -> web allow"]
    assert closed((DENY,), {"db"}) == (DENY,)


def test_of_another_cluster_no_intention_counts_but_its_denies_and_who_was_vouched_for_takes_the_calls_that_it_took() -> None:
    """Also by a wildcard, of which the other cluster's list says nothing; who was not may be called by nobody."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        why, anybody = "", IntentionRow("*", "*", "allow")

        async def why_foreign() -> str:
            return why

        hold = IntentionHold(scene.catalog, why_foreign)
        rights = ScriptedRights(peer, "* -> * allow", "api -> db deny")
        assert await hold.vouch("web", is_here=True) == ""
        await hold.take((anybody, DENY), ())
        why = "another catalog"
        for _ in range(2):
            await hold.take((OPEN, IntentionRow("api", "db", "allow"), IntentionRow("till", "web", "deny")), ())
            assert said(hold.rows) == ["* -> * allow", "api -> db deny", "till -> web deny"]
            assert "another catalog" in hold.alarm
            assert await hold.vouch("web", is_here=True) == ""
        assert await hold.vouch("new", is_here=True) == "another catalog"
        assert said(hold.rows) == ["* -> * allow", "api -> db deny", "* -> new deny", "till -> web deny"]
        why = ""
        rights.put("* -> db allow")
        await hold.take((OPEN,), ())
        assert (said(hold.rows), hold.alarm) == (["* -> db allow"], "")

    alone(script)


def test_what_comes_here_while_another_cluster_answers_takes_no_calls_by_what_was_never_proven_to_be_all() -> None:
    """A deny may be hidden; nor later, where the token may not read it."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        whys = ["", "another catalog", ""]

        async def why_foreign() -> str:
            return whys.pop(0)

        hold = IntentionHold(scene.catalog, why_foreign)
        ScriptedRights(peer, "shop -> web allow").may_read("db")
        await hold.take((SHOP,), ())
        for _ in range(2):
            assert await hold.vouch("web", is_here=True)
            assert said(hold.rows) == ["* -> web deny"]

    alone(script)


def test_a_deny_that_vanishes_with_a_right_stays_in_force() -> None:
    """1.8 leaves out row by row: `* -> db allow` is shown to whoever may read anything, and the deny of one caller is not."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow", "api -> db deny", "shop -> web allow")
        await until(lambda: len(rows_of(scene)) == 3, "the intentions")
        rights.may_read("web")
        await until(scene.follower.alarms, "the alarm")
        assert rows_of(scene) == ["* -> db allow", "api -> db deny", "shop -> web allow"]
        assert 'the token may not read the intentions of db (give it intentions = "read")' in scene.follower.alarms()[0]
        rights.put("* -> db allow", "api -> db deny", "shop -> web deny")
        await until(lambda: "shop -> web deny" in rows_of(scene), "news of another destination")
        assert "api -> db deny" in rows_of(scene)
        rights.may_read_all()
        rights.put("* -> db allow")
        await until(lambda: rows_of(scene) == ["* -> db allow"], "what is taken away and proven")
        assert scene.follower.alarms() == ()

    played(script)


def test_a_service_of_this_host_is_asked_for_whether_or_not_anything_was_lost() -> None:
    """An agent that starts with half a token has never seen the deny that it would miss."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow", "api -> db deny", "* -> web allow")
        rights.may_read("web")
        peer.register("db", instance(HOST1, "db", 5432))
        peer.register("web", instance(HOST2, "web", 80))
        await until(lambda: rows_of(scene) == ["* -> db deny", "* -> web allow"], "nobody may call it")
        await until(lambda: "intentions of db" in "".join(scene.follower.alarms()), "the alarm")
        rights.may_read_all()
        await until(lambda: rows_of(scene) == ["* -> db allow", "api -> db deny", "* -> web allow"], "the truth")
        await until(lambda: scene.follower.alarms() == (), "no alarm any more")

    played(script)


def test_a_service_that_comes_to_this_host_is_asked_for_once() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        ScriptedRights(peer, "* -> db allow")
        await until(scene.follower.state, "the state")
        before = asked(peer)
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: scene.services() == {"db": 1}, "the service")
        assert asked(peer) == before + 1
        peer.register("db", instance(HOST1, "db", 5432), instance(HOST1, "db", 5433, "two"))
        await until(lambda: scene.services() == {"db": 2}, "another instance")
        assert asked(peer) == before + 1

    played(script)


def test_a_right_that_comes_back_needs_no_new_list() -> None:
    """Who waits for news of the list is not woken by a right."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow", "api -> db deny")
        rights.may_read("web")
        await until(lambda: rows_of(scene) == ["* -> db allow"], "the list")
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: rows_of(scene) == ["* -> db deny"], "nobody may call it")
        listed = len([path for _, path, _ in peer.asked if path == LEGACY_INTENTIONS])
        rights.may_read_all(is_told=False)
        await until(lambda: rows_of(scene) == ["* -> db allow", "api -> db deny"], "the truth")
        await until(lambda: not scene.follower.alarms(), "no alarm any more")
        assert len([path for _, path, _ in peer.asked if path == LEGACY_INTENTIONS]) == listed

    played(script)


def test_a_restart_with_half_a_token_keeps_what_was_saved() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        scene.follower.remember(CatalogState(intentions=(OPEN, DENY)))
        ScriptedRights(peer, "* -> db allow", "api -> db deny").may_read("web")
        await until(scene.follower.alarms, "the alarm")
        assert rows_of(scene) == ["* -> db allow", "api -> db deny"]

    played(script)


def test_a_list_that_lacks_what_is_shown_for_the_destination_is_not_believed() -> None:
    """As where one server of two is of another version."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow", "api -> db deny")
        await until(lambda: len(rows_of(scene)) == 2, "the intentions")
        peer.set("/v1/connect/intentions", [])
        await until(scene.follower.alarms, "the alarm")
        assert "(deny) is shown where db is asked for" in scene.follower.alarms()[0] or "(allow) is shown" in scene.follower.alarms()[0]
        assert rows_of(scene) == ["* -> db allow", "api -> db deny"]
        rights.put()
        await until(lambda: rows_of(scene) == [] and not scene.follower.alarms(), "the truth")

    played(script)


def test_a_service_that_left_is_no_alarm_any_more() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow")
        rights.show_service("db")
        rights.may_read("web")
        peer.register("db", instance(HOST1, "db", 5432))
        await until(lambda: "intentions of db" in "".join(scene.follower.alarms()), "the alarm")
        peer.set("/v1/health/service/db", [])
        peer.set(SERVICES, {})
        await until(lambda: scene.services() == {} and not scene.follower.alarms(), "its end")
        rights.put("* -> db allow", "* -> web deny")
        await until(lambda: rows_of(scene) == ["* -> db allow", "* -> web deny"], "the list, of which nothing of it was lost")
        assert scene.follower.alarms() == ()

    played(script)


def test_a_service_that_could_not_be_asked_for_is_not_proven_by_another() -> None:
    """The catalog failed once, for it alone."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "* -> db allow", "api -> db deny")
        hold = IntentionHold(scene.catalog)
        await hold.take((OPEN,))
        match, peer.scripts[MATCH] = peer.scripts[MATCH], lambda _: web.Response(status=500, text="no leader")
        with pytest.raises(CatalogError, match="no leader"):
            await hold.vouch("db", is_here=True)
        peer.scripts[MATCH] = match
        assert await hold.vouch("web", is_here=True) == ""
        rights.may_read("web")
        assert "intentions of db" in await hold.vouch("db", is_here=True)
        assert said(hold.rows) == ["* -> db deny"]

    alone(script)


def test_of_many_that_vanished_none_is_let_go_for_which_another_speaks_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INTENTION_PROOFS", 1)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer)
        rights.may_read("zoo")
        hold = IntentionHold(scene.catalog)
        hold.remember(tuple(IntentionRow("shop", name, "allow") for name in ("one", "two", "zoo")))
        await hold.take(())
        assert said(hold.rows) == ["shop -> one allow", "shop -> two allow", "shop -> zoo allow"]
        assert "the intentions of 3 services (one, two, zoo) are held" in hold.alarm

    alone(script)


def test_without_any_intention_the_right_to_read_them_is_asked_for() -> None:
    """With nothing of before everything is denied, and it is said why."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "shop -> web allow")
        rights.may_read()
        await until(scene.follower.alarms, "the alarm")
        assert "may not read the intentions of every service" in scene.follower.alarms()[0]
        await until(lambda: scene.follower.state() is not None, "the state all the same")
        rights.may_read_all()
        await until(lambda: rows_of(scene) == ["shop -> web allow"] and not scene.follower.alarms(), "the truth")

    played(script)


def test_a_question_that_fails_leaves_all_as_it_was() -> None:
    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "shop -> web allow")
        await until(lambda: rows_of(scene) == ["shop -> web allow"], "the intention")
        peer.scripts[MATCH] = lambda _: web.Response(status=500, text="no leader")
        rights.put()
        await until(scene.follower.complaints, "the complaint")
        assert rows_of(scene) == ["shop -> web allow"]

    played(script)


def test_rows_of_before_an_entry_was_shown_are_not_in_force_beside_it() -> None:
    """The list may come anew in minutes only, and is not believed again before it has the entry, too."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "api -> db allow", "shop -> db deny")
        rights.keep("db", "shop deny")
        hold = IntentionHold(scene.catalog)
        rows = (IntentionRow("api", "db", "allow"), IntentionRow("shop", "db", "deny"))
        await hold.take(rows, ())
        await hold.vouch("db", is_here=True)
        assert said(hold.rows) == ["shop -> db deny"]
        await hold.take(rows, ())
        assert (said(hold.rows), "the KV store shows an entry" in hold.alarm) == (["shop -> db deny"], True)
        await hold.take((IntentionRow("shop", "db", "deny"),), ("db",))
        assert (said(hold.rows), hold.alarm) == (["shop -> db deny"], "")

    alone(script)


def test_of_many_that_vanish_the_one_that_is_hidden_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are asked for one by one are gone indeed; of the others the right is asked for, many at once."""
    monkeypatch.setattr(limits, "INTENTION_PROOFS", 1)

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        rights = ScriptedRights(peer, "shop -> a0 allow", "shop -> a1 allow", "shop -> a2 allow", "shop -> a3 allow")
        await until(lambda: len(rows_of(scene)) == 4, "the intentions")
        told = Authorized(peer, "a2")
        rights.put("shop -> a1 allow")
        await until(lambda: "may not read the intentions of a2" in "".join(scene.follower.alarms()), "the alarm")
        assert rows_of(scene) == ["shop -> a1 allow", "shop -> a2 allow"]
        told.hidden.clear()
        await until(lambda: rows_of(scene) == ["shop -> a1 allow"], "its end")

    played(script)
