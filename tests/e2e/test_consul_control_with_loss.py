"""A real Consul 1.8.7 whose token loses a right while the agent follows it: nothing that was known goes by that."""

import asyncio

import pytest

from nodeagent.control.lately import there
from tests.e2e.test_consul_control import SYNC_S, consul, played  # noqa: F401 - consul: a fixture
from tests.support.loop import until

KEYS = ' key_prefix "nodeagent/config/" { policy = "read" }'
TILL = {"Name": "till", "Port": 8081, "Address": "10.77.0.1"}


class Policy:
    """The ACL rules of the agent's token, to be changed while it is in use."""

    def __init__(self, scene, name):
        self._client = scene.master
        self._policy = self._client.ok("GET", f"/v1/acl/policy/name/{name}")

    async def put(self, old="", new=""):
        """The rules as they were, `old` in them replaced; waits until they count."""
        body = self._policy | {"Rules": self._policy["Rules"].replace(old, new) if old else self._policy["Rules"] + new}
        self._client.ok("PUT", f"/v1/acl/policy/{self._policy['ID']}", body)
        await asyncio.sleep(SYNC_S)


@pytest.fixture
def rows(consul):  # noqa: F811 - the fixture
    """Intentions that are gone again after the test."""
    client, made = consul.client(), []

    def create(source, destination, action):
        row = {"SourceName": source, "DestinationName": destination, "Action": action, "SourceType": "consul"}
        made.append(client.ok("POST", "/v1/connect/intentions", row)["ID"])
        return made[-1]

    yield create
    for each in made:
        client.call("DELETE", f"/v1/connect/intentions/{each}")


def alarms(scene):
    return " / ".join(scene.follower.alarms())


def test_a_deny_that_the_token_is_not_shown_any_more_stays_in_force(consul, tmp_path, rows) -> None:  # noqa: F811 - the fixture
    """Of `db` the list still has `* -> db`, which whoever may read anything is shown. With the right back it is believed again."""

    async def script(scene) -> None:
        rows("*", "db", "allow")
        deny = rows("api", "db", "deny")
        await until(lambda: scene.pairs() == ["* -> db allow", "api -> db deny"], "the intentions")
        policy = Policy(scene, tmp_path.name)
        await policy.put('intentions = "read"', 'intentions = "deny"')
        rows("shop", "web", "allow")  # who waits is answered; a token that may write `web` may read its intentions
        await until(lambda: "the token may not read the intentions of db" in alarms(scene), "the alarm", 60)
        await until(lambda: scene.pairs() == ["* -> db allow", "api -> db deny", "shop -> web allow"], "news of web", 60)
        scene.master.ok("DELETE", f"/v1/connect/intentions/{deny}")
        await asyncio.sleep(SYNC_S)
        assert "api -> db deny" in scene.pairs()
        await policy.put()
        await until(lambda: scene.pairs() == ["* -> db allow", "shop -> web allow"], "the truth", 60)
        assert alarms(scene) == ""

    played(consul, tmp_path, script)


def test_a_service_that_the_token_is_not_shown_any_more_stays(consul, tmp_path) -> None:  # noqa: F811 - the fixture
    """One instance, which is believed to be gone at once where the token may read the service."""

    async def script(scene) -> None:
        scene.master.put("/v1/agent/service/register", TILL)
        await until(lambda: scene.state and scene.state.instances.get("till"), "the service")
        policy = Policy(scene, tmp_path.name)
        await policy.put(new='\nservice "till" { policy = "deny" }\n')
        scene.master.put("/v1/agent/service/register", TILL | {"Port": 8082})  # who waits is answered
        await until(lambda: 'give it service "till" { policy = "read" }' in alarms(scene), "the alarm", 60)
        assert scene.state.instances["till"][0].instance.addresses[0].port == 8081
        await policy.put()
        await until(lambda: scene.state.instances["till"][0].instance.addresses[0].port == 8082, "the truth", 60)
        scene.master.put("/v1/agent/service/deregister/till")
        await until(lambda: not scene.state.instances.get("till"), "its end", 60)
        assert alarms(scene) == ""

    played(consul, tmp_path, script)


def test_a_service_of_this_host_takes_no_calls_until_its_intentions_may_be_read(consul, tmp_path, rows) -> None:  # noqa: F811 - the fixture
    """The agent starts with half a token: it never saw the deny."""

    async def script(scene) -> None:
        rows("*", "till", "allow")
        rows("api", "till", "deny")
        scene.master.put("/v1/agent/service/register", TILL)
        await until(lambda: "the token may not read the intentions of till" in alarms(scene), "the alarm")
        await until(lambda: scene.pairs() == ["* -> till deny"], "nobody may call it")
        await Policy(scene, tmp_path.name).put(new='\nservice "till" { policy = "read" intentions = "read" }\n')
        await until(lambda: scene.pairs() == ["* -> till allow", "api -> till deny"], "the truth", 60)
        scene.master.put("/v1/agent/service/deregister/till")

    rules = 'agent "host1" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "read" intentions = "deny" }'
    played(consul, tmp_path, script, rules=rules + KEYS + ' service "web" { policy = "write" } service "nodeagent" { policy = "write" }')


def test_a_host_that_the_token_may_not_read_any_more_stays_with_what_is_there(consul, tmp_path) -> None:  # noqa: F811 - the fixture
    """Its instance is one of two, which would be believed at once, and its mark would be forgotten after five minutes."""
    far = {"Node": "host2", "Address": "10.77.0.2", "NodeMeta": {"nodeagent": "15008;v1"}, "SkipNodeUpdate": False}

    async def script(scene) -> None:
        scene.master.put("/v1/agent/service/register", TILL)
        scene.master.put("/v1/catalog/register", far | {"Service": {"Service": "till", "Port": 8081}})
        await until(lambda: scene.state and len(scene.state.instances.get("till", ())) == 2 and scene.marks().get("host2"), "both instances")
        policy = Policy(scene, tmp_path.name)
        await policy.put(new='\nnode "host2" { policy = "deny" }\n')
        scene.master.put("/v1/agent/service/register", TILL | {"Port": 8082})  # who waits is answered
        scene.master.put("/v1/catalog/register", {"Node": "host3", "Address": "10.77.0.3"})
        await until(lambda: scene.state and alarms(scene).count('give it node "host2" { policy = "read" }') == 2, "both alarms", 60)
        assert len(scene.state.instances["till"]) == 2
        assert scene.marks()["host2"][0] == 15008
        await policy.put()
        for name in ("host3", "host2"):
            scene.master.put("/v1/catalog/deregister", {"Node": name})
        await until(lambda: scene.state and len(there(scene.state.instances["till"])) == 1, "its end", 60)
        scene.master.put("/v1/agent/service/deregister/till")

    played(consul, tmp_path, script)
