"""How many questions may wait at once."""

import pytest
from aiohttp import web

from nodeagent import limits
from nodeagent.control.room import WAIT_S, Room
from tests.support.loop import until
from tests.support.scripted_catalog import INVENTORY, SELF, ScriptedCatalog, instance
from tests.unit.nodeagent.control.test_follow import HOST2, Scene, alone, played

MANY = limits.CATALOG_WATCHES_AT_START + 1
HEALTH = "/v1/health/service/"
CONSUL = {"Config": {"NodeName": "host1", "Datacenter": "dc1", "NodeID": "7f3e"}}


@pytest.mark.parametrize(
    ("said", "wanted", "age_s", "expected"),
    [
        (CONSUL, MANY, 0.0, limits.CATALOG_WATCHES_AT_START),
        (CONSUL, MANY, WAIT_S - 1.0, limits.CATALOG_WATCHES_AT_START),
        (CONSUL, MANY, WAIT_S, limits.CATALOG_WATCHES),
        (None, MANY, 0.0, limits.CATALOG_WATCHES_AT_START),
        ({"Config": {"NodeName": "", "Datacenter": "dc1"}}, MANY, 0.0, limits.CATALOG_WATCHES),
        (CONSUL, MANY - 1, 0.0, limits.CATALOG_WATCHES_AT_START),
    ],
    ids=["at first", "as long as Consul may wait", "then", "who does not say", "the embedded catalog", "few"],
)
def test_there_are_fewer_while_a_consul_agent_counts_those_of_before(said: object, wanted: int, age_s: float, expected: int) -> None:
    """Where few are wanted nobody is asked whose the room is."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.scripts[SELF] = lambda _: web.Response(status=403, text="Permission denied") if said is None else web.json_response(said)
        now = [5000.0]
        room = Room(scene.catalog, lambda: now[0])
        now[0] += age_s
        await room.look(wanted)
        assert room.watches() == expected
        assert room.wait_s() == (limits.CONSUL_WAIT_S if expected == limits.CATALOG_WATCHES else limits.CATALOG_PULSE_WAIT_S)
        assert bool(peer.asked) == (wanted == MANY and age_s < WAIT_S)

    alone(script)


def test_two_starts_in_a_row_stay_within_what_a_consul_agent_takes() -> None:
    assert limits.CATALOG_WATCHES + 2 * limits.CATALOG_WATCHES_AT_START < 200


def test_services_beyond_the_room_come_in_one_answer_until_there_is_more() -> None:
    """None is left out meanwhile."""

    async def script(scene: Scene, peer: ScriptedCatalog) -> None:
        peer.has_inventory = True
        peer.set(SELF, CONSUL)
        waits = []
        peer.scripts[f"{HEALTH}s0"] = lambda request: waits.append(request.query.get("wait"))
        for n in range(MANY):
            peer.register(f"s{n}", instance(HOST2, f"s{n}", 5000 + n))
        await until(lambda: len(scene.services()) == MANY, "all of them")
        waiting = {path for _, path, index in peer.asked if path.startswith(HEALTH) and index not in ("", "0")}
        assert len(waiting) < limits.CATALOG_WATCHES_AT_START
        assert any(path == INVENTORY for _, path, _ in peer.asked)
        assert set(filter(None, waits)) == {f"{limits.CATALOG_PULSE_WAIT_S:.0f}s"}

    played(script)
