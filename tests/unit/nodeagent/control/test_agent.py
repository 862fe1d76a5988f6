"""Control as a whole, in this process."""

import asyncio
import re
import socket
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.catalog import compiler
from nodeagent.config import CatalogTable
from nodeagent.control import agent, follow
from nodeagent.control.agent import keep_running
from nodeagent.control.consul import Catalog
from nodeagent.control.domain_hold import HeldDomain
from nodeagent.control.environment import Environment
from nodeagent.control.watch import Rhythm
from nodeagent.model.address import Address
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire.capture_file import NAME, decode_capture
from nodeagent.wire.frames import CaptureFrame, DeltaFrame, HostRead, Records, WantHost, WantSvid
from tests.support.control_scene import HOST1, HOST2, ControlScene
from tests.support.far_ends import FarEnd, ring_of, snapshot_of
from tests.support.loop import run, until
from tests.support.mesh import config
from tests.support.rows import row
from tests.support.scripted_catalog import DOMAIN, INTENTIONS, ROOTS, SERVICES, ScriptedCatalog, instance

PROTOCOLS = "/v1/config/service-defaults"


class Away(ScriptedCatalog):
    """A catalog at whose address nobody is."""

    async def open(self, port: int) -> None:
        await super().open(port)
        await self._site.stop()


class Named(ScriptedCatalog):
    """A catalog that has a name."""

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"


def test_where_the_catalog_s_name_leads_reaches_the_supervisor_and_the_disk(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path, peer=Named()) as playing:
            capture = await asyncio.to_thread(playing.supervisor.wait, CaptureFrame)
            assert "127.0.0.1" in capture.catalog
            await until(lambda: (tmp_path / NAME).exists() and decode_capture((tmp_path / NAME).read_bytes()).catalog, "the file")

    run(scene)


def test_what_is_called_from_here_is_followed_and_what_is_called_here_is_not_for_that() -> None:
    env = Environment(lambda: 1000.0, lambda: 0.0, lambda: 1000.0)
    control = agent.Control(config(), Catalog(CatalogTable("http://127.0.0.1:1"), env.now), env, None, None)
    control._take_records(Records([row(1, destination="web"), row(2, destination="shop", direction="inbound")]))
    assert control.follower._dialled.recent() == {"web"}


def test_a_change_in_the_catalog_reaches_the_worker_and_the_supervisor(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the first snapshot")
            capture = await asyncio.to_thread(playing.supervisor.wait, CaptureFrame)
            assert (capture.ports, "10.77.0.2" in capture.addresses) == ([9000], True)
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")

    run(scene)


def test_the_kernel_hears_of_a_service_that_is_new_here_and_not_of_others(tmp_path) -> None:
    """Which ports and addresses are captured is told when it may differ."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the first snapshot")
            playing.peer.register("db", instance(HOST2, "db", 5432))
            await until(lambda: "db" in snapshot_of(playing.worker).services, "another host's")
            playing.peer.register("cart", instance(HOST1, "cart", 7000))
            await until(lambda: 7000 in captured(playing.supervisor)[-1].ports, "this host's")
            assert [[9000], [7000, 9000]] == [frame.ports for frame in captured(playing.supervisor)]

    run(scene)


def captured(end: FarEnd) -> list[CaptureFrame]:
    return [message for message in end.messages if isinstance(message, CaptureFrame)]


def test_certificates_of_local_services_and_those_asked_for_reach_the_worker(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path, '[identity]\nunits = "any"\n') as playing:
            await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the service's own")
            playing.worker.send(WantSvid("cron"))
            await until(lambda: len(ring_of(playing.worker).svids) == 2, "the one asked for")
            assert [svid.service for svid in ring_of(playing.worker).svids] == ["cron", "shop"]

    run(scene)


def other_roots(domain: str) -> dict[str, Any]:
    root = {"ID": "r2", "RootCert": LocalCa.create(domain, datetime.now(UTC)).cert_pem, "Active": True}
    return {"ActiveRootID": "r2", "TrustDomain": domain, "Roots": [root]}


def test_of_a_catalog_with_another_trust_domain_the_mesh_stays_as_it_was(tmp_path) -> None:
    """It lost its data and made itself a CA: no service, no protocol, no intention goes by that."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            peer = playing.peer
            peer.allow("shop -> web")
            peer.set(PROTOCOLS, [{"Name": "web", "Protocol": "http"}])
            await until(lambda: (s := snapshot_of(playing.worker)) and s.services["web"].protocol == "http" and s.services["web"].intentions, "all of it")
            peer.set(ROOTS, other_roots("other.consul"))
            for path in ("/v1/health/service/web", "/v1/health/service/shop", PROTOCOLS, INTENTIONS):
                peer.set(path, [])
            peer.set(SERVICES, {})
            async with asyncio.timeout(30):
                while str((await playing.get("/v1/status"))[1]).count("it is another catalog, or lost its data") < 4:
                    await asyncio.sleep(0.02)
            snapshot = snapshot_of(playing.worker)
            assert [len(snapshot.services[name].instances) for name in ("web", "shop")] == [1, 1]
            assert (snapshot.services["web"].protocol, len(snapshot.services["web"].intentions)) == ("http", 1)
            assert 9000 in snapshot.local_by_port

    run(scene)


def test_an_agent_that_starts_meanwhile_holds_on_and_hears_what_is_new(tmp_path) -> None:
    """Without keys, as after a stop: of the other cluster denies and services that are new count, and for no longer than elsewhere."""
    other = ScriptedCatalog()
    other.set(ROOTS, other_roots("other.consul"))
    deny = {"Kind": "service-intentions", "Name": "shop", "Sources": [{"Name": "cart", "Action": "deny"}]}

    async def held_s(playing: ControlScene) -> int:
        async with asyncio.timeout(30):
            while not (found := re.search(r"for (\d+) s more", str((await playing.get("/v1/status"))[1]))):
                await asyncio.sleep(0.02)
        return int(found[1])

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            playing.peer.allow("shop -> web", "cart -> web", "db -> shop")
            await until(lambda: (s := snapshot_of(playing.worker)) and s.services["web"].intentions, "the intentions")
            await until(lambda: (file := tmp_path / "snapshot").exists() and b"cart" in file.read_bytes(), "they are saved")
            playing.peer.set(ROOTS, other.values[ROOTS][1])
            assert await held_s(playing) > 200
        held = tmp_path / "held-domain"
        held.write_bytes(msgspec.msgpack.encode(replace(said := msgspec.msgpack.decode(held.read_bytes(), type=HeldDomain), at=said.at - 200)))
        other.set(INTENTIONS, [deny])
        async with ControlScene(tmp_path, peer=other) as playing:
            other.register("new", instance(HOST1, "new", 7000))
            await until(lambda: (s := snapshot_of(playing.worker)) and 7000 in s.local_by_port, "the service that is new")
            assert await held_s(playing) <= 100
            snapshot = snapshot_of(playing.worker)
            assert (snapshot.mesh.trust_domain, (await playing.get("/v1/status"))[1]["catalog"]["source"]) == (DOMAIN, "catalog")
            pairs = {f"{row.source} {row.action}" for name in ("web", "shop") for row in snapshot.services[name].intentions}
            assert pairs == {"shop allow", "cart allow", "db allow", "cart deny"}

    run(scene)


def test_the_first_call_to_a_new_instance_of_a_service_that_is_not_watched_knows_it(tmp_path, monkeypatch) -> None:
    """The worker has it before the answer to its question; where all is watched it has no question."""
    monkeypatch.setattr(limits, "CATALOG_WATCHES", follow._OTHER_WATCHES + 3)
    monkeypatch.setattr(follow, "_LONG", Rhythm(rest_s=3600.0))

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: (found := snapshot_of(playing.worker)) and "web" in found.services, "the first snapshot")
            assert not snapshot_of(playing.worker).mesh.is_late
            playing.peer.has_inventory = True
            playing.peer.register("zebra", instance(HOST2, "zebra", 81))
            playing.peer.register("zebu", instance(HOST2, "zebu", 82))
            await until(lambda: (found := snapshot_of(playing.worker)).mesh.is_late and "zebu" in found.services, "what is not watched")
            path = "/v1/health/service/zebu"
            playing.peer.values[path] = playing.peer.index, [*playing.peer.values[path][1], instance(HOST2, "zebu", 9001, "zebu-2")]
            playing.worker.send(WantHost("host2", 9001))
            await asyncio.to_thread(playing.worker.wait, HostRead)
            until_then = playing.worker.messages[: playing.worker.messages.index(HostRead("host2", 9001))]
            assert isinstance(until_then[-1], DeltaFrame)
            assert Address("10.77.0.2", 9001) in snapshot_of(playing.worker).by_address

    run(scene)


def test_it_starts_from_what_was_saved_when_the_catalog_is_away(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            playing.peer.allow("shop -> web")
            await until((tmp_path / "snapshot").exists, "the file")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            status, answer = await playing.get("/v1/status")
            assert (status, answer["catalog"]["source"]) == (200, "catalog")
            await until(lambda: b"shop" in (tmp_path / "snapshot").read_bytes(), "the intention is saved")
        async with ControlScene(tmp_path, peer=Away()) as playing:
            snapshot = await until(lambda: snapshot_of(playing.worker), "the saved snapshot")
            assert "web" in snapshot.services
            while (answer := (await playing.get("/v1/status"))[1])["catalog"]["connected"]:  # it has not asked yet
                await asyncio.sleep(0)
            assert answer["catalog"]["source"] == "saved"

    run(scene)


def test_a_defect_while_a_change_is_handed_out_is_shown_and_the_change_is_tried_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nodeagent.control.agent._LOOK_AGAIN_S", 0.05)
    broken: list[object] = []
    real = compiler.capture_of

    def capture_of(snapshot: Snapshot) -> compiler.Capture:
        if broken:
            raise RuntimeError("a defect of ours")
        return real(snapshot)

    monkeypatch.setattr("nodeagent.control.supervisor.capture_of", capture_of)

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the first snapshot")
            broken.append(1)
            playing.peer.register("db", instance(HOST1, "db", 5432))
            async with asyncio.timeout(30):
                while "a defect of ours" not in str((await playing.get("/v1/status"))[1]["problems"]):
                    await asyncio.sleep(0.02)
            broken.clear()
            async with asyncio.timeout(30):
                while "a defect of ours" in str((await playing.get("/v1/status"))[1]["problems"]):
                    await asyncio.sleep(0.02)
            assert snapshot_of(playing.worker).services["db"].instances

    run(scene)


def test_what_the_supervisor_cannot_be_told_keeps_no_later_change_out(tmp_path, monkeypatch) -> None:
    """Workers have it, and what came after it."""
    monkeypatch.setattr("nodeagent.control.agent._LOOK_AGAIN_S", 0.05)
    real = agent.frame_of

    def frame_of(snapshot: Snapshot) -> CaptureFrame:
        if "bad" in snapshot.services:
            raise RuntimeError("a defect of ours")
        return real(snapshot)

    monkeypatch.setattr(agent, "frame_of", frame_of)

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: (found := snapshot_of(playing.worker)) and "web" in found.services, "the first snapshot")
            playing.peer.register("bad", instance(HOST1, "bad", 7000))
            await until(lambda: "bad" in snapshot_of(playing.worker).services, "the service")
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")

    run(scene)


def test_a_part_that_fails_is_started_again() -> None:
    tries = []

    async def part() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("a defect of ours")

    failing: dict[str, str] = {}
    with capture_logs() as log:
        run(lambda: keep_running("part", part, Environment(lambda: 0.0, lambda: 0.99), failing))
    assert len(tries) == 3
    assert (failing, [line["event"] for line in log]) == ({}, ["part_failed"])


def test_a_part_without_its_port_is_a_problem_until_it_runs(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would miss the metrics before they are needed."""
    monkeypatch.setattr(limits, "PART_WELL_S", 0.1)

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            async with ControlScene(tmp_path, metrics=f"127.0.0.1:{port}") as playing:

                async def problem() -> str:
                    _, body = await playing.get("/v1/status")
                    return next((line for line in body["problems"] if line.startswith("metrics does not run")), "")

                async with asyncio.timeout(30):
                    while "in use" not in (found := await problem()):
                        await asyncio.sleep(0.02)
                    assert str(port) in found
                    other.close()
                    while await problem():
                        await asyncio.sleep(0.02)

    run(scene)


@pytest.mark.parametrize(
    ("error", "told"),
    [(ConnectionResetError(), False), (RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed"), False),
     (RuntimeError("a defect"), True), (None, True)],
)  # fmt: skip
def test_what_nobody_awaited_is_told_unless_it_is_daily_life(error: Exception | None, capsys: pytest.CaptureFixture[str], *, told: bool) -> None:
    """Connections end at any moment; anything else is a defect, in the log as a line of ours."""
    loop = asyncio.new_event_loop()
    agent._note_failure(loop, {"message": "somewhere", "exception": error})
    loop.close()
    out = capsys.readouterr()
    assert ("callback_failed" in out.out + out.err) is told
