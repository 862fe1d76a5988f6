"""What is called a problem and what a warning."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from msgspec.structs import replace

from certs.csr import requested_id
from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.control.view import one_line
from nodeagent.wire.frames import SupervisorStats
from tests.support.control_scene import HOST1, ControlScene
from tests.support.far_ends import ring_of, snapshot_of, supervisor_stats, worker_stats
from tests.support.loop import run, until
from tests.support.scripted_catalog import DOMAIN, INTENTIONS, ROOTS, ScriptedCatalog, instance


async def settled(playing: ControlScene) -> None:
    await until(lambda: snapshot_of(playing.worker), "the snapshot")
    await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the certificate")


async def told(playing: ControlScene, where: str, what: str) -> dict:
    """The status, once `what` is in one of its lists."""
    async with asyncio.timeout(30):
        while True:
            _, body = await playing.get("/v1/status")
            if any(what in str(line) for line in body[where]):
                return body
            await asyncio.sleep(0.02)


def test_interception_that_failed_is_a_problem(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.supervisor.send(supervisor_stats("failed", detail="no nft"))
            body = await told(playing, "problems", "interception is failed: no nft")
            assert body["healthy"] is False

    run(scene)


def test_no_serving_worker_is_a_problem(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.supervisor.send(supervisor_stats(workers=[]))
            await told(playing, "problems", "no worker is serving")

    run(scene)


def test_places_that_stand_empty_are_a_problem(tmp_path) -> None:
    """Not a worker that has just died: a spare takes its place at once."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            stats = supervisor_stats()
            dead = type(stats.workers[0])(1, 0, 0.0, 1, "dead")
            playing.supervisor.send(replace(stats, workers=[*stats.workers, dead]))
            assert "stand empty" not in str((await told(playing, "workers", "dead"))["problems"])
            playing.supervisor.send(replace(stats, unserved=1))
            await told(playing, "problems", "1 of the workers' places stand empty")

    run(scene)


def test_flows_that_could_not_be_saved_are_a_warning(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("nodeagent.control.ledger.Ledger.unsaved", "/x/flows: could not be saved")

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await told(playing, "warnings", "/x/flows: could not be saved")

    run(scene)


def test_a_sentry_that_is_missing_is_a_problem(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.supervisor.send(supervisor_stats(sentry_trouble="it ended with -9"))
            body = await told(playing, "problems", "no sentry watches")
            assert (body["healthy"], "it ended with -9" in str(body["problems"])) == (False, True)

    run(scene)


def test_that_control_did_not_hear_is_told_afterwards(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.supervisor.send(supervisor_stats(control_stalls=2, control_stalled_at=17.5))
            part = {"control_stalls": 0}
            async with asyncio.timeout(30):
                while not part["control_stalls"]:
                    part = (await playing.get("/v1/status"))[1]["supervisor"] or part
            assert (part["control_stalls"], part["control_stalled_at"]) == (2, 17.5)

    run(scene)


def test_a_silent_supervisor_is_a_problem(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "ALIVE_S", 0.1)

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            await told(playing, "problems", "supervisor is silent: new connections get what `fail` says; where no watchdog ends it, systemctl restart nodeagent")

    run(scene)


def test_a_supervisor_that_was_not_heard_yet_is_not_called_silent(tmp_path) -> None:
    """By a control that has just been started, in the place of one that hung, say."""

    async def scene() -> None:
        async with ControlScene(tmp_path, is_heard=False) as playing:
            body = await told(playing, "problems", "the supervisor was not heard yet")
            assert (body["healthy"], "silent" in str(body["problems"])) == (False, False)

    run(scene)


def test_a_catalog_out_of_reach_is_a_problem_and_what_is_in_force_has_an_age(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CATALOG_LOST_S", 0.1)

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            await playing.peer._runner.cleanup()
            body = await told(playing, "problems", "catalog is out of reach")
            base = body["catalog"]["address"]
            async with asyncio.timeout(30):
                while not [line for line in body["warnings"] if "questions wait" in line]:
                    await asyncio.sleep(0.02)
                    _, body = await playing.get("/v1/status")
            assert len([line for line in body["warnings"] if line.startswith(base)]) == 1
            assert body["catalog"]["source"] == "catalog"
            assert body["catalog"]["generation"] >= 1
            await playing.peer._runner.setup()

    run(scene)


def test_a_certificate_that_is_refused_is_a_problem_that_says_why(tmp_path) -> None:
    async def scene() -> None:
        playing = ControlScene(tmp_path)
        playing.peer.scripts["/v1/nodeagent/sign"] = lambda _: web.Response(status=403, text="not for shop")
        async with playing:
            body = await told(playing, "problems", "no certificate for shop")
            assert body["identity"]["missing"] == ["shop"]

    run(scene)


def test_a_worker_that_is_late_is_a_warning(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.worker.send(replace(worker_stats(), lag_s=0.5))
            await told(playing, "warnings", "worker 0 is 0.50 s late")

    run(scene)


def test_a_worker_without_descriptors_is_a_problem_while_it_is_so(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.worker.send(replace(worker_stats(), used_up=400))
            await told(playing, "problems", "worker 0 has used up its 400 descriptors and refuses calls: raise LimitNOFILE=")

    run(scene)


def test_a_worker_without_a_channel_is_shown_as_such(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            facts = supervisor_stats()
            other = type(facts.workers[0])(1, 4002, 0.0, 3, "serving")
            playing.supervisor.send(SupervisorStats(4000, "0.1.0", 0.0, "active", "", 0, 2, [*facts.workers, other]))
            body = await told(playing, "workers", "no_channel")
            assert [(w["number"], w["state"], w["restarts"]) for w in body["workers"]] == [
                (0, "serving", 0), (1, "no_channel", 3),
            ]  # fmt: skip

    run(scene)


def test_a_service_past_the_agent_is_a_warning(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.peer.register("db", instance(HOST1, "db", 8500))
            await told(playing, "warnings", "db is called past the agent, by anybody: port 8500 is never captured")

    run(scene)


def test_a_service_past_the_agent_is_shown_as_such_among_the_services(tmp_path) -> None:
    """Only where this host's agent is the one that is gone past; others know their own ports."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.peer.register("db", instance(HOST1, "db", 8500))
            await told(playing, "warnings", "db is called past the agent")
            _, body = await playing.get("/v1/services")
            whys = {part["name"]: [each["uncaptured"] for each in part["instances"]] for part in body["services"]}
            assert whys["db"][0].startswith("port 8500 is never captured")
            assert {why for name, each in whys.items() if name != "db" for why in each} == {""}

    run(scene)


def test_a_drained_host_is_a_warning_with_the_way_back(tmp_path) -> None:
    """Only its own services are named; the instance is shown as such everywhere."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            check = {"CheckID": "_node_maintenance", "Status": "critical"}
            row = instance(HOST1, "db", 5432)
            playing.peer.register("db", row | {"Checks": [check], "Service": row["Service"] | {"Weights": {"Passing": 5, "Warning": 1}}})
            body = await told(playing, "warnings", "drained, so that balancers send no new work: db; to end that: nodeagent undrain")
            assert body["healthy"]
            _, body = await playing.get("/v1/services")
            assert {part["name"]: [(each["drained"], each["weight"]) for each in part["instances"]] for part in body["services"]}["db"] == [(True, 5)]

    run(scene)


HERE = "https://c:8501"


def test_what_did_not_reach_the_catalog_is_one_line() -> None:
    """One cause is told once; what the catalog itself refused stays a line of its own."""
    refused = "the catalog answered 403 to /v1/agent/x: no"
    away = [f"{HERE}/v1/{path}: nobody listens" for path in ("a", "b")]
    assert one_line(f"{HERE}/", [f"{HERE}/v1/c: cut off", *away, refused], "nobody listens") == [
        f"{HERE}: nobody listens (3 questions wait)", refused,
    ]  # fmt: skip
    assert one_line(HERE, away, "") == [f"{HERE}: nobody listens (2 questions wait)"]
    assert one_line(HERE, [away[0], refused], "") == [away[0], refused]


def test_a_name_that_is_not_in_the_mesh_is_a_warning(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            for name in ("Web", "Shop"):
                playing.peer.register(name, instance(HOST1, name, 80))
            await told(playing, "warnings", "not in the mesh (and 1 more services): 'Shop' cannot name a service")

    run(scene)


@pytest.mark.parametrize(("ip", "is_told"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_metrics_for_everybody_are_a_warning(tmp_path, ip: str, is_told: object) -> None:
    async def scene() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        async with ControlScene(tmp_path, metrics=f"{ip}:{port}") as playing:
            await settled(playing)
            _, body = await playing.get("/v1/status")
            assert any("admin.metrics" in line for line in body["warnings"]) is is_told

    run(scene)


class Late(ScriptedCatalog):
    """A CA by whose clock it is still yesterday afternoon."""

    def _sign(self, csr_pem: str) -> web.Response:
        spiffe_id = requested_id(csr_pem)
        assert spiffe_id is not None
        yesterday = datetime.now(UTC) - timedelta(hours=15)
        ca = LocalCa.create(DOMAIN, yesterday)
        return web.json_response({"CertPEM": ca.sign(csr_pem, spiffe_id, timedelta(hours=24), yesterday)})


def test_a_certificate_that_is_due_when_it_comes_is_used_and_a_warning(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path, peer=Late()) as playing:
            await settled(playing)
            body = await told(playing, "warnings", "the certificate of shop was not renewed: it was due for renewal")
            assert body["identity"]["missing"] == []

    run(scene)


class Elsewhen(ScriptedCatalog):
    """A catalog by whose clock it is another time."""

    ahead_h = 0

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._serve(request)
        answer.headers["Date"] = format_datetime(datetime.now(UTC) + timedelta(hours=self.ahead_h), usegmt=True)
        return answer


@pytest.mark.parametrize(("ahead_h", "words"), [(25, "25.0 h behind the catalog's"), (-25, "25.0 h ahead of the catalog's")])
def test_a_clock_that_is_not_the_catalog_s_is_a_problem_until_it_is(tmp_path, ahead_h: int, words: str) -> None:
    """Without it all would look well while every new tunnel is refused."""

    async def scene() -> None:
        peer = Elsewhen()
        peer.ahead_h = ahead_h
        async with ControlScene(tmp_path, peer=peer) as playing:
            await settled(playing)
            body = await told(playing, "problems", words)
            assert (body["healthy"], len(body["problems"])) == (False, 1)
            peer.ahead_h = 0
            playing.peer.register("db", instance(HOST1, "db", 5432))
            async with asyncio.timeout(30):
                while not (await playing.get("/v1/status"))[1]["healthy"]:
                    await asyncio.sleep(0.02)

    run(scene)


def test_a_root_that_is_being_replaced_and_what_is_revoked_are_shown(tmp_path) -> None:
    """Which services still speak by the old one, and how many tokens' certificates are refused."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            roots = playing.peer.roots()
            other = {"ID": "r2", "RootCert": LocalCa.create(DOMAIN, datetime.now(UTC)).cert_pem, "Active": True}
            playing.peer.set(ROOTS, roots | {
                "ActiveRootID": "r2", "Roots": [*roots["Roots"], other], "RevokedSerialTags": ["4a:00"],
            })  # fmt: skip
            async with asyncio.timeout(30):
                while (identity := (await playing.get("/v1/status"))[1]["identity"])["roots"] != 2:
                    await asyncio.sleep(0.02)
            assert (identity["rotating"], identity["revoked"]) == (["shop"], 1)
            _, certs = await playing.get("/v1/certs")
            assert (certs["active_root"], certs["revoked"]) == ("r2", ["4a:00"])
            assert [(part["service"], part["root"]) for part in certs["certificates"]] == [("shop", "r1")]

    run(scene)


def test_a_token_that_the_catalog_refuses_is_one_problem_with_its_cure(tmp_path) -> None:
    """Every question is refused for the same reason: none of them is a warning besides."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            for path in (ROOTS, INTENTIONS):
                playing.peer.scripts[path] = lambda _: web.Response(status=403, text="unknown or was revoked")
                playing.peer.set(path, playing.peer.values[path][1])
            body = await told(playing, "problems", "the catalog refuses this host's token")
            (problem,) = body["problems"]
            assert "unknown or was revoked" in problem
            assert "nodeagent catalog token create" in problem
            assert (body["healthy"], body["warnings"]) == (False, [])

    run(scene)


def test_connect_that_is_off_is_a_problem_with_its_cure(tmp_path) -> None:
    """Consul's words of it, and what to do."""

    async def scene() -> None:
        peer, said = ScriptedCatalog(), "Connect must be enabled in order to use this endpoint"
        peer.scripts[ROOTS] = lambda _: web.Response(status=500, text=said)
        async with ControlScene(tmp_path, peer=peer) as playing:
            body = await told(playing, "problems", "the mesh's roots are not known: no tunnel opens for the catalog answered 500")
            (line,) = [line for line in body["problems"] if "no tunnel opens" in line]
            assert said in line
            assert "connect { enabled = true }" in line

    run(scene)


def test_a_catalog_whose_index_went_back_is_a_warning(tmp_path) -> None:
    """A restored snapshot: everything is read anew, and nothing else would show it."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await settled(playing)
            playing.peer.scripts[INTENTIONS] = lambda _: web.json_response([], headers={"X-Consul-Index": "3"})
            playing.peer.allow("shop -> web")  # who waits there asks again
            await told(playing, "warnings", "the catalog's index went back from")

    run(scene)
