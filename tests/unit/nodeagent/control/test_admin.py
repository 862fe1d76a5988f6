"""The admin API over its socket, in front of a whole control."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent import limits
from nodeagent.control.admin import bind_socket
from nodeagent.wire.frames import Records
from tests.support.control_scene import HOST1, ControlScene
from tests.support.far_ends import ring_of, snapshot_of, worker_stats
from tests.support.loop import run, until
from tests.support.rows import denied, row
from tests.support.scripted_catalog import instance


def test_status_of_a_healthy_agent(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the certificate")
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.worker.send(worker_stats(connections=3))

            async def answer() -> dict:
                status, body = await playing.get("/v1/status")
                assert status == 200
                return body

            body = await answer()
            while not (body["healthy"] and body["workers"][0]["connections"] == 3):
                body = await answer()
            assert body["apiVersion"] == "nodeagent/v1"
            assert (body["host"], body["mode"], body["problems"]) == ("host1", "strict", [])
            assert body["workers"][0] | {"state": "serving", "generation": 1, "pid": 4001} == body["workers"][0]
            assert body["interception"]["state"] == "active"
            assert body["identity"]["certificates"] == 1

    run(scene)


def test_what_is_held_is_told_once(tmp_path) -> None:
    """Also while the answer that lost it waits to be read again."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            playing.peer.register("db", *(instance(HOST1, "db", 5000 + n, f"db{n}") for n in range(6)))
            await until(lambda: (snapshot := snapshot_of(playing.worker)) and "db" in snapshot.services, "the service")
            playing.peer.register("db")
            async with asyncio.timeout(30):
                while not (told := [line for line in (await playing.get("/v1/status"))[1]["warnings"] if line.startswith("db: ")]):
                    await asyncio.sleep(0.02)
            assert len(told) == 1

    run(scene)


def test_services_and_certs_are_what_the_agent_holds(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            playing.peer.allow("shop -> web")
            await until(lambda: (s := snapshot_of(playing.worker)) and s.services["web"].intentions, "the intention")
            await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the certificate")
            _, services = await playing.get("/v1/services")
            web = next(service for service in services["services"] if service["name"] == "web")
            assert web["instances"][0]["addresses"] == ["10.77.0.2:80", "[fd77::2]:80"]
            assert web["instances"][0]["is_meshed"] is True
            assert web["intentions"] == [{"source": "shop", "destination": "web", "action": "allow"}]
            _, certs = await playing.get("/v1/certs")
            assert [(c["service"], c["state"]) for c in certs["certificates"]] == [("shop", "valid")]
            assert "PRIVATE" not in str(certs)

    run(scene)


def test_connections_open_and_closed_by_service_and_number(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.worker.send(Records([row(1), denied(2), row(3, source="cart")]))
            playing.worker.send(worker_stats())

            async def closed(query: str) -> list[str]:
                _, body = await playing.get(f"/v1/connections?closed=1{query}")
                return [each["id"] for each in body["connections"]]

            while len(await closed("")) < 3:
                pass
            assert await closed("") == ["0-3", "0-2", "0-1"]
            assert await closed("&service=shop&limit=1") == ["0-2"]
            status, body = await playing.get("/v1/connections")
            assert (status, body["connections"], body["unanswered"]) == (200, [], 0)

    run(scene)


def test_a_query_that_makes_no_sense_is_refused_by_the_name_of_the_parameter(tmp_path) -> None:
    """What would be passed over could be what was meant. Prometheus may ask its page with whatever it asks all others."""
    refused = {
        "connections?limit=0": "limit: '0'", "connections?limit=x": "limit: 'x'", "connections?limit=999999999": "limit: '999",
        "connections?limit=-1": "limit: '-1'", "connections?colour=red": "'colour': not known here; known here: closed, limit, service",
        "connections?limit=1&limit=2": "'limit': stands there more than once", "connections?service=": "'service': is empty",
        "connections?closed=maybe": "closed: 'maybe'", "status?x=1": "'x': not known here; known here: none",
        "why?id=b3-17&id=b3-18": "'id': stands there more than once", "enforce?service=": "'service': is empty", "why?%1b=1": "'\\x1b': not known",
    }  # fmt: skip

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: Path(playing.socket).exists(), "the socket")
            for query, said in refused.items():
                status, body = await playing.get(f"/v1/{query}")
                assert (status, body["error"].startswith(f"400 Bad Request: {said}")) == (400, True), body
            assert (await playing.get("/v1/nothing?x=1"))[0] == 404
            assert (await playing.get("/v1/connections?closed=false&limit=5&service=web"))[0] == 200

    run(scene)


def test_unknown_paths_and_methods_are_answered_as_json(tmp_path) -> None:
    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: Path(playing.socket).exists(), "the socket")
            status, answer = await playing.get("/v2/status")
            assert (status, answer["error"]) == (404, "404 Not Found: nothing is at '/v2/status' for GET")
            status, body = await playing.get("/v1/status", "DELETE")
            assert (status, body["apiVersion"]) == (405, "nodeagent/v1")

    run(scene)


def test_a_scrape_knows_of_lines_that_were_lost_since_the_last_connection(tmp_path) -> None:
    """The disk refuses a line when its connection has long been counted, and there may be no other for hours."""

    async def scene() -> None:
        async with ControlScene(tmp_path, f'[log]\nconnections = "{tmp_path}/missing/connections.log"\n') as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.worker.send(Records([denied(1)]))
            async with asyncio.timeout(30):
                while b"nodeagent_log_lines_dropped_total 1.0" not in (await playing.get("/metrics"))[1]:
                    await asyncio.sleep(0.02)

    run(scene)


def test_metrics_are_served_on_loopback_and_nothing_else_is(tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def fetch(path: str, method: str = "GET") -> tuple[int, bytes]:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    async def scene() -> None:
        async with ControlScene(tmp_path, metrics=f"127.0.0.1:{port}") as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.worker.send(Records([denied(1)]))
            status, body = await asyncio.to_thread(fetch, "/metrics?collect=all")
            assert status == 200
            names = {family.name for family in text_string_to_metric_families(body.decode())}
            assert {"nodeagent_snapshot_generation", "nodeagent_catalog_connected"} <= names
            assert (await asyncio.to_thread(fetch, "/v1/status"))[0] == 404
            assert (await asyncio.to_thread(fetch, "/metrics", "POST"))[0] == 403

    run(scene)


def test_the_socket_is_for_owner_and_group_and_replaces_an_old_one(tmp_path) -> None:
    path = tmp_path / "api.sock"
    for _ in range(2):
        listener, gid = bind_socket(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert gid == path.stat().st_gid
        listener.close()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_not_a_socket_is_not_replaced(tmp_path, kind: str) -> None:
    path, other = tmp_path / "api.sock", tmp_path / "precious"
    other.write_text("precious")
    if kind == "link":
        path.symlink_to(other)
    else:
        path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"admin.socket"):
        bind_socket(path)
    assert other.read_text() == "precious"


def test_a_body_has_an_end(tmp_path: Path) -> None:
    """Who may write may not fill control's memory."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            status, body = await playing.get("/v1/modes", "POST", {"mode": "x" * limits.API_BODY_BYTES})
            assert (status, "413" in body["error"]) == (413, True)

    run(scene)


def test_a_listing_is_as_long_as_is_usual_unless_more_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how many there are."""
    monkeypatch.setattr(limits, "API_ROWS", 2)

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.worker.send(Records([row(1), row(2), row(3)]))
            while (body := (await playing.get("/v1/connections?closed=1"))[1])["total"] < 3:
                pass
            assert [each["id"] for each in body["connections"]] == ["0-3", "0-2"]
            assert len((await playing.get("/v1/connections?closed=1&limit=3"))[1]["connections"]) == 3

    run(scene)
