"""A second service at a port of this host, also in control between a scripted catalog and far ends: told, not believed, and no other alarm."""

import asyncio
import itertools

from aiohttp import web

from nodeagent.catalog.state import InstanceRow
from nodeagent.control.displaced import Displaced, displaced_alarms, displaced_here, in_vain
from nodeagent.model.address import Address
from tests.support import mesh as plain
from tests.support.control_scene import HOST1, ControlScene
from tests.support.far_ends import snapshot_of
from tests.support.loop import run, until
from tests.support.mesh import HOST2, WEB, mesh, seen_by
from tests.support.scripted_catalog import ScriptedCatalog, instance

API, SIGN = 9090, "/v1/nodeagent/sign"


def told_at(index: int, service: str, *, status: str = "passing", changed: int = 0, port: int = API) -> dict:
    """An instance at host1's API, as a catalog tells it that counts."""
    row = instance(HOST1, service, port)
    row["Service"] |= {"CreateIndex": index, "ModifyIndex": changed or index}
    return row | {"Checks": [{"CheckID": "c", "Status": status}]}


def decider(playing: ControlScene) -> str:
    """The service that has the port in the worker's snapshot."""
    snapshot = snapshot_of(playing.worker)
    return snapshot.local_by_port[API].service.name if snapshot and API in snapshot.local_by_port else ""


async def status_with(playing: ControlScene, what: str) -> dict:
    async with asyncio.timeout(30):
        while True:
            _, body = await playing.get("/v1/status")
            if any(what in line for line in body["warnings"]):
                return body
            await asyncio.sleep(0.02)


def test_a_second_service_at_a_port_is_a_warning_with_both_names_and_nothing_asks_for_its_certificate(tmp_path) -> None:
    """The catalog's CA would refuse one for it, and whoever gave the token that right would have made the port its own."""

    def refuse_strangers(request: web.Request) -> web.Response | None:
        return web.Response(status=403, text="it speaks for api, shop") if len(asked_for(peer)) > len(ALLOWED) else None

    peer = ScriptedCatalog()
    peer.scripts[SIGN] = refuse_strangers

    async def scene() -> None:
        async with ControlScene(tmp_path, peer=peer) as playing:
            peer.register("api", told_at(50, "api", status="critical"))
            await until(lambda: decider(playing) == "api", "the first")
            peer.register("aaa", told_at(51, "aaa"))
            said = "two services claim host1:9090: api (registered first, in force) and aaa"
            body = await status_with(playing, said)
            assert (decider(playing), body["problems"], body["healthy"]) == ("api", [], True)
            _, certs = await playing.get("/v1/certs")
            assert {"api", "shop"} == {each["service"] for each in certs["certificates"]}
            peer.register("api")
            await until(lambda: decider(playing) == "aaa", "the one that is left")
            _, body = await playing.get("/v1/status")
            assert not any("two services" in line for line in body["warnings"])

    run(scene)


def test_a_claim_that_was_made_early_elsewhere_and_moved_comes_second(tmp_path) -> None:
    """Consul keeps its first index, also with a restart of the agent in between."""

    async def scene() -> None:
        peer = ScriptedCatalog()
        async with ControlScene(tmp_path, peer=peer) as playing:
            peer.register("aaa", told_at(40, "aaa", port=7777))
            peer.register("api", told_at(50, "api"))
            await until(lambda: decider(playing) == "api", "api")
            peer.register("aaa", told_at(40, "aaa", changed=60))
            await status_with(playing, "two services claim host1:9090: api (registered first, in force) and aaa")
            await until(lambda: b"\xa3aaa" in (tmp_path / "snapshot").read_bytes(), "it is saved")
        (tmp_path / "api.sock").unlink(missing_ok=True)
        again = ScriptedCatalog()
        again.ca, again.index = peer.ca, peer.index
        again.values = dict(peer.values)
        async with ControlScene(tmp_path, peer=again) as playing:
            await status_with(playing, "two services claim host1:9090: api (registered first, in force) and aaa")
            assert decider(playing) == "api"

    run(scene)


ALLOWED = ("api", "shop")


def asked_for(peer: ScriptedCatalog) -> list[str]:
    """The requests for certificates so far."""
    return [path for _, path, _ in peer.asked if path == SIGN]


def test_the_host_concerned_says_which_two_and_what_to_do() -> None:
    """Only that one: whoever looks there can put it right."""
    both = {"api": (plain.instance(HOST2, 9090, since=1),), "aaa": (plain.instance(HOST2, 9090, id_="aaa", since=2),)}
    there = seen_by("host2", **both)
    assert tuple(Displaced(Address(ip, 9090), "aaa", "api") for ip in HOST2.addresses) == displaced_here(there)
    assert (
        "two services claim host2:9090: api (registered first, in force) and aaa (no call gets there by that name); deregister the one that is wrong",
    ) == displaced_alarms(there)
    assert ((), ()) == (displaced_here(seen_by("host1", **both)), displaced_here(mesh()))


def test_what_is_registered_in_vain_is_told_from_what_is_in_force_elsewhere() -> None:
    """Of the second the host does speak; an instance without an address claims nothing."""
    web, aaa = plain.instance(plain.HOST1, 80, since=1), plain.instance(plain.HOST1, 80, id_="aaa", since=2)
    more = plain.instance(plain.HOST1, 81, id_="more", since=3)
    nowhere = InstanceRow(web.instance.__class__("x", "host1", ()), plain.HOST1)
    for rows, expected in (((aaa,), {"aaa"}), ((aaa, more), set()), ((aaa, nowhere), set())):
        assert expected == in_vain(seen_by("host1", web=(web,), aaa=rows))
    both_at = dict(itertools.product(("web", "aaa"), [(plain.instance(HOST2, 80),)]))
    assert frozenset() == in_vain(seen_by("host1", **both_at))
    assert WEB in seen_by("host1", **both_at).by_address
