"""Intentions in the KV store of a real Consul 1.8.7, which has no entries for them."""

import asyncio

from nodeagent import limits
from nodeagent.catalog.kept_intentions import KEPT_INTENTIONS, kept_path
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.intention import change, with_source
from nodeagent.cli.legacy_intentions import fetch_all
from nodeagent.control import follow
from nodeagent.control.watch import Rhythm
from nodeagent.model.intention import Intention
from tests.e2e.test_consul_control import consul, played  # noqa: F401 - consul: a fixture
from tests.e2e.test_consul_control_with_loss import Policy, alarms, rows  # noqa: F401 - rows: a fixture
from tests.support.loop import until

RIGHT = 'key_prefix "nodeagent/config/" { policy = "read" }'
SHOP = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}]}
WEB = {"Name": "web", "Port": 8080, "Address": "10.77.0.1"}


def keep(scene, said, name="web"):
    """Puts an entry into the KV store; None: removes it."""
    assert scene.master.call("DELETE" if said is None else "PUT", kept_path(name), said).status == 200


def test_a_key_that_may_not_be_read_is_refused_and_a_list_is_as_if_nothing_was_there(consul) -> None:  # noqa: F811 - the fixture
    """By which the one is told from the other: 404 with an index is Consul's word that nothing is there."""
    master = consul.client()
    half = consul.client(consul.make_token("half", 'service_prefix "" { policy = "read" intentions = "read" }'))
    for is_there in (False, True):
        if is_there:
            master.put(kept_path("db"), SHOP)
        listed = half.get(KEPT_INTENTIONS)
        assert (listed.status, listed.index > 0) == (404, True)
        assert half.get(kept_path("db")).status == 403
    assert (master.get(KEPT_INTENTIONS).status, master.get(kept_path("*")).status) == (200, 404)
    assert master.get(kept_path("*")).index > 0
    master.delete(kept_path("db"))


def test_an_entry_stands_in_the_place_of_the_rows_of_its_destination(consul, tmp_path, rows) -> None:  # noqa: F811 - the fixtures
    """Heard at once when it comes, changes and goes; what it hides is named, and `nodeagent intention` changes it where it is."""

    async def script(scene) -> None:
        rows("api", "web", "allow")
        rows("api", "db", "allow")
        await until(lambda: scene.pairs() == ["api -> db allow", "api -> web allow"], "the rows")
        keep(scene, SHOP)
        await until(lambda: scene.pairs() == ["api -> db allow", "shop -> web allow"], "the entry")
        assert "rows of intentions are not in force" in alarms(scene)
        client = Client(scene.table, consul.token)
        assert [row.source for row in (await asyncio.to_thread(fetch_all, client)).shadowed] == ["api"]
        await asyncio.to_thread(change, client, "web", lambda entry: with_source(entry, Intention("cart", "web", "deny")))
        await until(lambda: scene.pairs() == ["api -> db allow", "cart -> web deny", "shop -> web allow"], "a change of ours")
        keep(scene, SHOP | {"Quota": 7})
        await until(lambda: scene.pairs() == ["api -> db allow", "* -> web deny"], "what nobody understands")
        keep(scene, None)
        await until(lambda: scene.pairs() == ["api -> db allow", "api -> web allow"], "the rows again")
        assert alarms(scene) == ""

    played(consul, tmp_path, script)


def test_entries_that_are_deleted_with_all_that_is_around_them(consul, tmp_path, rows, monkeypatch) -> None:  # noqa: F811 - the fixtures
    """Consul shows a lower index then, that of a key which was deleted before, and answers nobody who waits."""
    assert follow.KEPT.wait_s == limits.CATALOG_PULSE_WAIT_S
    monkeypatch.setattr(follow, "KEPT", Rhythm(wait_s=1.0, may_go_back=True))

    async def script(scene) -> None:
        rows("api", "web", "allow")
        keep(scene, SHOP, name="till")
        keep(scene, SHOP)
        await until(lambda: scene.pairs() == ["shop -> till allow", "shop -> web allow"], "the entries")
        keep(scene, None, name="till")
        keep(scene, SHOP | {"Meta": {"a": "b"}})
        await until(lambda: scene.pairs() == ["shop -> web allow"], "one of them")
        assert scene.master.call("DELETE", "/v1/kv/nodeagent/?recurse").status == 200
        await until(lambda: scene.pairs() == ["api -> web allow"], "the row")

    played(consul, tmp_path, script)


def test_an_entry_that_the_token_is_not_shown_any_more_stays_in_force(consul, tmp_path, rows) -> None:  # noqa: F811 - the fixtures
    """No row is lost by that, and the row that comes to light is wider."""

    async def script(scene) -> None:
        rows("api", "web", "allow")
        keep(scene, SHOP)
        await until(lambda: scene.pairs() == ["shop -> web allow"], "the entry")
        policy = Policy(scene, tmp_path.name)
        await policy.put(RIGHT, "")
        keep(scene, SHOP, name="till")  # who waits is answered, by the rights of when the question was asked
        await until(lambda: "shop -> till allow" in scene.pairs(), "an answer")
        keep(scene, SHOP | {"Meta": {"a": "b"}}, name="till")
        await until(lambda: RIGHT in alarms(scene), "the alarm")
        assert scene.pairs() == ["shop -> till allow", "shop -> web allow"]
        await policy.put()
        await until(lambda: RIGHT not in alarms(scene), "the right")
        assert scene.pairs() == ["shop -> till allow", "shop -> web allow"]
        keep(scene, None, name="till")
        keep(scene, None)
        await until(lambda: scene.pairs() == ["api -> web allow"], "an end that is proven")

    played(consul, tmp_path, script)


def test_a_service_takes_no_calls_where_its_key_may_not_be_read(consul, tmp_path, rows) -> None:  # noqa: F811 - the fixtures
    """As with the token of before this right was needed: what was never shown cannot be missed."""
    rules = 'agent "host1" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "read" intentions = "read" }'
    rules += ' service "nodeagent" { policy = "write" }'

    async def script(scene) -> None:
        rows("api", "web", "allow")
        scene.master.ok("PUT", "/v1/agent/service/register", WEB)
        await until(lambda: scene.pairs() == ["* -> web deny"], "nobody may call it")
        assert RIGHT in alarms(scene)
        scene.master.ok("PUT", "/v1/agent/service/deregister/web")

    played(consul, tmp_path, script, rules=rules)
