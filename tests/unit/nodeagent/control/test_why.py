"""GET /v1/why, in front of a whole control."""

import asyncio
import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from certs.serial import tag_in
from nodeagent import limits
from nodeagent.control import why as module
from nodeagent.errors import Reason
from nodeagent.wire.frames import Records, TunnelRow, WorkerStats
from tests.support.control_scene import ControlScene
from tests.support.far_ends import ring_of, snapshot_of, supervisor_stats
from tests.support.loop import run, until
from tests.support.rows import denied, row
from tests.support.scripted_catalog import ROOTS

TUNNEL = TunnelRow("shop", "web", "host2", "client", 3, 0.0)


def texts(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Verdict and text of the last step of each kind."""
    return {step["what"]: (step["verdict"], step["text"]) for step in answer["steps"]}


async def allowed(playing: ControlScene) -> None:
    """shop may call web, has its certificate and a tunnel."""
    playing.peer.allow("shop -> web")
    await until(lambda: (s := snapshot_of(playing.worker)) and s.services["web"].intentions, "the intention")
    await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the certificate")
    playing.worker.send(WorkerStats(4001, 1, 1, {}, 0, 0, [TUNNEL], 0.0, 0))


def test_the_whole_way_of_an_allowed_call(tmp_path: Path) -> None:
    """Each step in order, the callee's half marked, the version there."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await allowed(playing)
            answer: dict[str, Any] = {"steps": []}
            while texts(answer).get("tunnel", ("", ""))[0] != "ok":
                status, answer = await playing.get("/v1/why?from=shop&to=web")
                assert status == 200
            assert (answer["apiVersion"], answer["passes"], answer["address"]) == ("nodeagent/v1", True, "10.77.0.2:80")
            kinds = ["destination", "capture", "workload", "destination", "mode", "intention", "way", "certificate", "tunnel", "callee", "outcome"]
            assert [step["what"] for step in answer["steps"]] == kinds
            found = texts(answer)
            assert found["capture"] == ("ok", "10.77.0.2 is an address of the catalog")
            assert found["tunnel"] == ("ok", "1 open to host2, with 3 streams")
            assert found["certificate"][0] == "ok"
            assert "/svc/web" in found["certificate"][1]
            assert found["outcome"] == ("ok", "it passes")
            callee = next(step for step in answer["steps"] if step["what"] == "callee")
            assert callee["by"].startswith("host2, by this host's snapshot")

    run(scene)


def test_a_refused_call_and_one_that_passes_by(tmp_path: Path) -> None:
    """Denied by default; and never captured, whatever the intentions say."""

    async def scene() -> None:
        async with ControlScene(tmp_path, "[intercept]\nexclude_ports = [80]\n") as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            _, answer = await playing.get("/v1/why?from=shop&to=shop&address=10.77.0.1:9000")
            assert answer["passes"] is False
            assert texts(answer)["intention"] == ("refused", "none speaks of shop -> shop: the default is deny")
            assert texts(answer)["outcome"] == ("refused", "it is refused")
            _, answer = await playing.get("/v1/why?from=web&to=shop")
            assert (answer["passes"], texts(answer)["outcome"][0]) == (False, "unknown")
            _, answer = await playing.get("/v1/why?from=shop&to=web")
            assert texts(answer)["capture"][1].startswith("not captured: port 80 is in intercept.exclude_ports")
            assert texts(answer)["outcome"][0] == "note"

    run(scene)


@pytest.mark.parametrize("address", ["127.0.0.1:9000", "[::1]:9000", "127.8.9.10:9000"])
@pytest.mark.parametrize(("extra", "capture", "outcome"), [
    ('[service.shop]\nloopback = "enforce"\n', ("ok", "port 9000 is registered on this host"), ("refused", "it is refused")),
    ("", ("note", "is loopback, captured only for services with loopback"), ("note", "past the agent")),
])  # fmt: skip
def test_a_service_of_this_host_is_found_at_loopback(
    tmp_path: Path, address: str, extra: str, capture: tuple[str, str], outcome: tuple[str, str]
) -> None:
    """As the data path finds it, by its port."""

    async def scene() -> None:
        async with ControlScene(tmp_path, extra) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            status, answer = await playing.get(f"/v1/why?from=shop&to=shop&address={address}")
            assert (status, answer["address"]) == (200, address)
            assert texts(answer)["destination"][1].startswith(f"{address} is instance shop-host1 of shop on this host")
            for what, (verdict, words) in (("capture", capture), ("outcome", outcome)):
                assert (texts(answer)[what][0], words in texts(answer)[what][1]) == (verdict, True), texts(answer)[what]

    run(scene)


def test_a_service_of_this_host_refuses_local_callers_at_its_own_fe80_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the rules do; at another host's, nobody knows the service."""
    monkeypatch.setattr(module, "_is_local", lambda ip: ip == "fe80::1")

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            status, answer = await playing.get("/v1/why?from=shop&to=shop&address=[fe80::1]:9000")
            told = texts(answer)
            assert (status, answer["passes"], told["outcome"]) == (200, False, ("refused", "it is refused"))
            assert (told["capture"][0], "the kernel refuses it" in told["capture"][1]) == ("refused", True), told
            assert (await playing.get("/v1/why?from=shop&to=shop&address=[fe80::2]:9000"))[0] == 404

    run(scene)


def test_addresses_of_this_machine_are_told_from_others() -> None:
    """Those of a link, too, which cannot be bound without it."""
    rows = [line.split() for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()]
    ours = ["127.0.0.1", "::1", *(str(ipaddress.ip_address(bytes.fromhex(row[0]))) for row in rows if row[4] == "80")]
    assert [ip for ip in ours if module._is_local(ip)] == ours
    assert not [ip for ip in ("192.0.2.1", "2001:db8::1", "fe80::dead:beef:dead:beef") if module._is_local(ip)]


def test_a_connection_by_its_id(tmp_path: Path) -> None:
    """As it was recorded, and as it would be decided now; open or ended, either direction."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await allowed(playing)
            stream = row(2, direction="tunnel", source="web", destination="shop", original_dst="10.77.0.1:9000")
            passed = row(3, destination="", original_dst="192.0.2.1:443", path="direct")
            knock = row(4, direction="tunnel", original_dst="", path="none", reason="peer_identity", side="upstream", error="no TLS 1.3")
            far = row(5, reason="denied", side="mesh", error="the callee's agent refused", received=0)
            playing.worker.send(Records([denied(1), stream, passed, knock, far]))
            status = 404
            while status == 404:
                status, answer = await playing.get("/v1/why?id=0-1")
            assert (answer["passes"], answer["passes_now"], answer["connection"]["id"]) == (False, True, "0-1")
            assert texts(answer)["outcome"] == ("ok", "it passes")
            assert "denied (no intention)" in str(answer["steps"])
            _, answer = await playing.get("/v1/why?id=0-2")
            assert (texts(answer)["callee"][0], texts(answer)["outcome"][0]) == ("refused", "refused")
            assert answer["passes_now"] is False
            _, answer = await playing.get("/v1/why?id=0-3")
            assert (texts(answer)["capture"][0], texts(answer)["outcome"][0]) == ("note", "note")
            status, answer = await playing.get("/v1/why?id=0-4")
            assert (status, answer["passes"], [step["what"] for step in answer["steps"]]) == (200, False, ["recorded", "recorded", "outcome"])
            assert answer["passes_now"] is None
            _, answer = await playing.get("/v1/why?id=0-5")
            assert answer["passes"] is False

    run(scene)


@pytest.mark.parametrize(("log", "said"), [
    ("stdout", "those of before are in the log"), ("off", "the refused"), ("/nowhere/log", "the file of log.connections"),
])  # fmt: skip
def test_where_memory_begins_and_who_knows_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, said: str) -> None:
    """With this control, or with the oldest that is remembered."""

    async def scene() -> None:
        async with ControlScene(tmp_path, f'[log]\nconnections = "{log}"\n') as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            started_at = (await playing.get("/v1/status"))[1]["control_started_at"]
            _, body = await playing.get("/v1/why?id=b3-17")
            since = datetime.fromtimestamp(started_at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            assert f"no connection 'b3-17' is open, or among the 0 that ended since {since}, where this agent's memory begins" in body["error"]
            assert said in body["error"]
            monkeypatch.setattr(limits, "CLOSED_KEPT", 2)
            playing.worker.send(Records([row(1, closed_at=100.0), row(2, closed_at=200.0)]))
            async with asyncio.timeout(30):
                while "among the 2 that ended since 1970-01-01 00:01:40 UTC" not in body["error"]:
                    _, body = await playing.get("/v1/why?id=b3-17")

    run(scene)


def test_every_explanation_ends_with_an_outcome(tmp_path: Path) -> None:
    """Also where no service is registered, and for clear text from outside."""

    async def scene() -> None:
        async with ControlScene(tmp_path, '[intercept]\nunregistered = "refuse"\n') as playing:
            await allowed(playing)
            nowhere = row(1, destination="", source="", original_dst="10.77.0.2:99", path="none", reason="unregistered", side="mesh", error="none")
            clear = row(2, direction="plaintext", source="", destination="shop", original_dst="10.77.0.1:9000", path="none", reason="plaintext_refused")
            playing.worker.send(Records([nowhere, clear]))
            status = 404
            while status == 404:
                status, answer = await playing.get("/v1/why?id=0-2")
            assert [step["what"] for step in answer["steps"]][-3:] == ["outcome", "callee", "outcome"]
            assert texts(answer)["callee"][1].startswith("plaintext_refused: ")
            _, answer = await playing.get("/v1/why?id=0-1")
            kinds = ["recorded", "workload", "recorded", "outcome", "capture", "destination", "way", "outcome"]
            assert [step["what"] for step in answer["steps"]] == kinds
            assert texts(answer)["destination"] == ("note", "10.77.0.2:99 is a port of host2 at which no service is registered")
            assert texts(answer)["way"][1].startswith("unregistered: ")
            assert texts(answer)["outcome"] == ("refused", "it is refused")

    run(scene)


def test_in_observe_the_callee_may_say_no(tmp_path: Path) -> None:
    """It goes in clear to a host with an agent, whose modes nobody else knows."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await playing.get("/v1/modes", "POST", {"mode": "observe"})
            await until(lambda: (s := snapshot_of(playing.worker)) and s.mesh.mode == "observe", "observe")
            _, answer = await playing.get("/v1/why?from=shop&to=web")
            assert texts(answer)["callee"][0] == "unknown"
            assert texts(answer)["outcome"] == ("note", "it leaves this host in clear; the callee's agent may refuse it")
            assert answer["passes"] is True

    run(scene)


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("id=7-7", 404, "memory begins"),
        ("from=shop", 400, "to"),
        ("", 400, "to"),
        ("to=wep", 404, "did you mean web?"),
        ("to=web&port=81", 404, "not registered at port 81"),
        ("to=web&port=x", 400, "no port"),
        ("to=web&port=99999999999", 400, "no port"),
        ("to=web&address=10.0.0.1:1", 404, "not registered at 10.0.0.1:1"),
        ("to=web&address=127.0.0.1:80", 404, "not registered at 127.0.0.1:80"),
        ("to=web&address=127.0.0.1:9000", 404, "not registered at 127.0.0.1:9000"),
        ("to=shop&address=127.0.0.1", 404, "not registered at 127.0.0.1"),
        ("to=web&address=somewhere", 404, "not registered at somewhere"),
        ("to=web&address=10.77.0.2:80&port=81", 404, "not registered at 10.77.0.2:80"),
        ("to=web&colour=red", 400, "colour"),
    ],
)
def test_what_cannot_be_told_says_why(tmp_path: Path, query: str, status: int, said: str) -> None:
    """And where to look."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            answered, body = await playing.get(f"/v1/why?{query}")
            assert (answered, said in body["error"]) == (status, True)

    run(scene)


def test_a_certificate_that_is_refused_is_told(tmp_path: Path) -> None:
    """Our own by what the catalog says; the callee's by what its agent showed last, until it shows another."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await allowed(playing)

            async def verdict(expected: str) -> dict[str, Any]:
                async with asyncio.timeout(30):
                    while True:
                        _, answer = await playing.get("/v1/why?from=shop&to=web")
                        if texts(answer)["certificate"][0] == expected:
                            return answer
                        await asyncio.sleep(0.02)

            await verdict("ok")
            error = "the certificate of web on host2 was revoked (serial 4a:00)"
            playing.worker.send(Records([row(1, peer="host2"), row(2, peer="host2", path="none", reason=Reason.REVOKED, error=error)], 0))
            answer = await verdict("refused")
            assert error in texts(answer)["certificate"][1]
            assert (answer["passes"], texts(answer)["outcome"][0]) == (False, "refused")
            playing.worker.send(Records([row(3, peer="host2")], 0))
            await verdict("ok")
            playing.peer.scripts["/v1/nodeagent/sign"] = lambda _: web.Response(status=403, text="unknown or was revoked")
            ring = ring_of(playing.worker)
            assert ring is not None
            playing.peer.set(ROOTS, playing.peer.roots() | {"RevokedSerialTags": [tag_in(ring.svids[0].serial)]})
            answer = await verdict("refused")
            assert "revoked" in texts(answer)["certificate"][1]
            assert answer["passes"] is False

    run(scene)


def test_a_host_that_the_catalog_shuts_out_doubts_its_certificates(tmp_path: Path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await allowed(playing)
            playing.peer.scripts[ROOTS] = lambda _: web.Response(status=403, text="unknown")
            playing.peer.set(ROOTS, playing.peer.roots())
            said = ("", "")
            async with asyncio.timeout(30):
                while said[0] != "note":
                    _, answer = await playing.get("/v1/why?from=shop&to=web")
                    said = texts(answer)["certificate"]
            assert "refuses this host's token" in said[1]

    run(scene)


@pytest.mark.parametrize(("fail", "switch", "outcome", "passes"), [
    ("closed", ("refused", 'are reset (fail = "closed")'), ("refused", "it is reset now; once an agent beats again: it passes"), False),
    ("open", ("note", "go directly, in clear"), ("note", "it goes around the agent now, in clear; once an agent beats again: it passes"), True),
])  # fmt: skip
def test_a_fallen_switch_decides_before_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: str, switch: tuple[str, str], outcome: tuple[str, str], passes: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    """While the supervisor is silent nobody beats, and the kernel asks no agent."""
    extra = f'[intercept]\nfail = "{fail}"\n[service.web]\nmode = "permissive"\n'

    async def scene() -> None:
        async with ControlScene(tmp_path, extra) as playing:
            await allowed(playing)
            monkeypatch.setattr(limits, "ALIVE_S", 0.1)
            answer: dict[str, Any] = {"steps": []}
            while "switch" not in texts(answer):
                _, answer = await playing.get("/v1/why?from=shop&to=web")
            told = texts(answer)
            assert (told["switch"][0], switch[1] in told["switch"][1]) == (switch[0], True), told["switch"]
            assert "the supervisor is silent" in told["switch"][1]
            assert (told["outcome"], answer["passes"]) == (outcome, passes)
            playing.worker.send(Records([row(2, direction="tunnel", source="web", destination="shop", original_dst="10.77.0.1:9000")]))
            while not answer.get("connection"):
                _, answer = await playing.get("/v1/why?id=0-2")
            assert "a new tunnel to this host is reset" in texts(answer)["switch"][1]

    run(scene)


def test_where_no_worker_serves_the_switch_is_about_to_fall(tmp_path: Path) -> None:
    """All have ended, say."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await allowed(playing)
            playing.supervisor.send(supervisor_stats(workers=[]))
            answer: dict[str, Any] = {"steps": []}
            while "switch" not in texts(answer):
                _, answer = await playing.get("/v1/why?from=shop&to=web")
            assert texts(answer)["switch"][1].startswith("no worker is serving, so the dead-man switch falls within 5 s")
            assert answer["passes"] is False

    run(scene)
