"""Modes of a running control: looked at, rehearsed, switched."""

from pathlib import Path
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.control.environment import real_environment
from nodeagent.decide.mode import mode_of
from nodeagent.wire.capture_file import NAME, decode_capture
from nodeagent.wire.frames import Records
from tests.support.control_scene import ControlScene
from tests.support.far_ends import ring_of, snapshot_of
from tests.support.loop import run, until
from tests.support.rows import denied, row

OBSERVING = '[host]\nmode = "observe"\n'
FROM_OUTSIDE = {"direction": "plaintext", "source": "", "destination": "shop", "path": "local", "client": "192.0.2.9:1", "original_dst": "10.77.0.1:9000"}  # fmt: skip
IN_CLEAR = FROM_OUTSIDE | {"client": "10.77.0.2:1"}
BY_TUNNEL = {"direction": "tunnel", "source": "web", "destination": "shop", "path": "local", "peer": "host2", "original_dst": "10.77.0.1:9000"}


async def started(playing: ControlScene) -> None:
    """Until the worker decides by a snapshot, in observe."""
    await until(lambda: snapshot_of(playing.worker), "the snapshot")
    status, _ = await playing.get("/v1/modes", "POST", {"mode": "observe"})
    assert status == 200
    await until(lambda: snapshot_of(playing.worker).mesh.mode == "observe", "observe")


async def seen(playing: ControlScene, *rows: Any) -> None:
    """Until control has taken note of these connections."""
    for each in rows:
        each.opened_at = real_environment().now()
    playing.worker.send(Records(list(rows)))
    flows = 0
    while not flows:
        flows = (await playing.get("/v1/enforce?mode=strict"))[1]["flows"]


def saved_exceptions(state_dir: Path) -> tuple[str, list[tuple[str, int]]]:
    """What a host that starts may bypass, and what not."""
    try:
        frame = decode_capture((state_dir / NAME).read_bytes())
    except FileNotFoundError:
        return "", []
    return frame.fail, frame.except_endpoints


def test_a_switch_reaches_the_workers_and_the_status(tmp_path: Path) -> None:
    """Of the host and of one service; back to the file's, too."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await started(playing)
            assert (await playing.get("/v1/status"))[1]["mode"] == "observe"
            status, body = await playing.get("/v1/modes", "POST", {"mode": "permissive", "service": "web"})
            assert (status, body["apiVersion"]) == (200, "nodeagent/v1")
            parts = [(part["service"], part["mode"], part["configured"], part["switched_by"]) for part in body["modes"]]
            assert parts == [("", "observe", "strict", "uid 0"), ("web", "permissive", "", "uid 0")]
            await until(lambda: mode_of(snapshot_of(playing.worker), "web") == "permissive", "web's mode")
            warnings = (await playing.get("/v1/status"))[1]["warnings"]
            assert any("this host is observe by `nodeagent enforce`; the file says strict" in each for each in warnings)
            await playing.get("/v1/modes", "POST", {"mode": None})
            await until(lambda: snapshot_of(playing.worker).mesh.mode == "strict", "the file's mode")
            assert (await playing.get("/v1/modes"))[1]["modes"][0] == {
                "service": "", "mode": "strict", "configured": "strict", "switched_by": "", "switched_at": 0.0,
            }  # fmt: skip

    run(scene)


def test_the_check_names_whom_the_next_mode_would_refuse(tmp_path: Path) -> None:
    """From what was recorded: the reason, how often; whoever is refused already or would pass is not among them."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await started(playing)
            await seen(playing, row(1), row(2), row(3, source="cart"), denied(4), row(5, **FROM_OUTSIDE))
            _, body = await playing.get("/v1/enforce")
            assert (body["mode"], body["proposed"], body["flows"]) == ("observe", "permissive", 3)
            found = [(part["flow"]["source"], part["times"], part["reason"]) for part in body["refused"]]
            assert found == [("shop", 2, "denied"), ("cart", 1, "denied")]
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            _, body = await playing.get("/v1/enforce?mode=strict")
            assert [part["reason"] for part in body["refused"]] == ["denied", "plaintext_refused"]
            _, body = await playing.get("/v1/enforce?mode=strict&service=shop")
            assert [part["reason"] for part in body["refused"]] == ["plaintext_refused"]

    run(scene)


def test_the_check_of_a_step_back_names_what_leaves_its_tunnel(tmp_path: Path) -> None:
    """Nobody is refused here; the callee's host may."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            await seen(playing, row(1, peer="host2"), row(2, peer="host2"))
            _, body = await playing.get("/v1/enforce?mode=observe")
            assert (body["refused"], body["cut"]) == ([], [])
            assert [(part["flow"]["source"], part["times"], part["reason"]) for part in body["bare"]] == [("shop", 2, "plaintext_refused")]
            _, body = await playing.get("/v1/enforce?mode=permissive")
            assert body["bare"] == []

    run(scene)


def test_what_is_open_and_would_be_cut_is_told_apart(tmp_path: Path) -> None:
    """It passes now, a new one would too, in a tunnel; and whoever has no certificate would not."""

    async def scene() -> None:
        clear = row(1, path="direct", peer="host2", closed_at=0.0, permit="would_allow: shop -> web (allow)")
        async with ControlScene(tmp_path, rows=[clear]) as playing:
            await started(playing)
            playing.peer.allow("shop -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions, "the intention")
            await until(lambda: (ring := ring_of(playing.worker)) and ring.svids, "the certificate")
            _, body = await playing.get("/v1/enforce?mode=strict")
            assert (body["refused"], [(part["times"], part["reason"]) for part in body["cut"]]) == ([], [(1, "policy_changed")])
            stranger = row(2, source="cron", peer="host2", path="direct")
            await seen(playing, stranger)
            playing.peer.allow("* -> web")
            await until(lambda: snapshot_of(playing.worker).services["web"].intentions[0].source == "*", "the intention")
            _, body = await playing.get("/v1/enforce?mode=strict")
            assert [(part["flow"]["source"], part["reason"]) for part in body["refused"]] == [("cron", "no_svid")]

    run(scene)


def test_clear_text_of_before_the_tunnels_is_superseded(tmp_path: Path) -> None:
    """It is listed apart; what is still seen in clear counts."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await started(playing)
            playing.peer.allow("web -> shop")
            await until(lambda: snapshot_of(playing.worker).services["shop"].intentions, "the intention")
            await seen(playing, row(1, **IN_CLEAR))
            _, body = await playing.get("/v1/enforce?mode=strict")
            assert ([part["reason"] for part in body["refused"]], body["superseded"]) == (["plaintext_refused"], [])
            await seen(playing, row(2, **BY_TUNNEL))
            while (body := (await playing.get("/v1/enforce?mode=strict"))[1])["flows"] < 2:
                pass
            assert (body["refused"], [part["flow"]["client"] for part in body["superseded"]]) == ([], ["10.77.0.2"])
            await seen(playing, row(3, **IN_CLEAR))
            while (body := (await playing.get("/v1/enforce?mode=strict"))[1])["superseded"]:
                pass
            assert [part["times"] for part in body["refused"]] == [2]

    run(scene)


def test_clear_text_that_is_open_is_not_superseded(tmp_path: Path) -> None:
    """It began after the tunnels: its like was seen before them, too."""

    async def scene() -> None:
        later = row(1, opened_at=real_environment().now() + 3600, closed_at=0.0, **IN_CLEAR)
        async with ControlScene(tmp_path, rows=[later]) as playing:
            await started(playing)
            playing.peer.allow("web -> shop")
            await until(lambda: snapshot_of(playing.worker).services["shop"].intentions, "the intention")
            await seen(playing, row(2, **IN_CLEAR))
            await seen(playing, row(3, **BY_TUNNEL))
            while (body := (await playing.get("/v1/enforce?mode=strict"))[1])["flows"] < 2:
                pass
            assert ([part["flow"]["client"] for part in body["refused"]], body["superseded"]) == (["10.77.0.2"], [])

    run(scene)


def test_old_flows_can_be_left_out(tmp_path: Path) -> None:
    """Not those of connections that are open, however long they have been."""

    async def scene() -> None:
        async with ControlScene(tmp_path, rows=[row(1, source="cart", closed_at=0.0)]) as playing:
            await started(playing)
            await seen(playing, row(2))
            old = row(3, source="cron", opened_at=real_environment().now() - 7200, closed_at=0.0)
            playing.worker.send(Records([old]))
            while (body := (await playing.get("/v1/enforce?mode=strict"))[1])["flows"] < 3:
                pass
            assert body["within_s"] == limits.FLOW_AGE_S
            _, body = await playing.get("/v1/enforce?mode=strict&since=3600")
            assert (body["within_s"], {part["flow"]["source"] for part in body["refused"]}) == (3600.0, {"shop", "cart"})

    run(scene)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/v1/modes", {"mode": "lax"}, 400, "mode"),
        ("POST", "/v1/modes", {"mode": "strict", "colour": "red"}, 400, "colour"),
        ("POST", "/v1/modes", [], 400, "the body"),
        ("POST", "/v1/modes", {"mode": "strict", "service": "wep"}, 404, "did you mean web?"),
        ("GET", "/v1/enforce?mode=lax", None, 400, "permissive"),
        ("GET", "/v1/enforce?colour=red", None, 400, "colour"),
        ("GET", "/v1/enforce?since=0", None, 400, "since"),
        ("GET", "/v1/enforce?since=2592001", None, 400, "2592000 seconds"),
        ("GET", "/v1/enforce?service=wep", None, 404, "did you mean web?"),
        ("DELETE", "/v1/modes", None, 405, "405"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    tmp_path: Path, method: str, path: str, body: object, status: int, said: str
) -> None:
    """In our words."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until(lambda: snapshot_of(playing.worker), "the snapshot")
            answered, told = await playing.get(path, method, body)
            assert answered == status
            assert said in told["error"]
            assert not (tmp_path / "modes.json").exists()

    run(scene)


def test_what_cannot_be_saved_is_refused_and_strict_is_told_to_the_kernel(tmp_path: Path) -> None:
    """On a host that lets pass while the agent is dead: what is strict is not among that any more, on disk too."""

    async def scene() -> None:
        async with ControlScene(tmp_path, '[intercept]\nfail = "open"\n') as playing:
            await started(playing)
            await until(lambda: saved_exceptions(tmp_path) == ("open", []), "nothing stays closed")
            status, _ = await playing.get("/v1/modes", "POST", {"mode": "strict"})
            assert status == 200
            await until(lambda: saved_exceptions(tmp_path)[1] != [], "what stays closed is saved")
            await playing.get("/v1/modes", "POST", {"mode": "observe"})
            await until(lambda: saved_exceptions(tmp_path)[1] == [], "nothing does")
            (tmp_path / "modes.json.new").mkdir()
            status, body = await playing.get("/v1/modes", "POST", {"mode": "permissive"})
            assert (status, "is as before" in body["error"]) == (507, True)
            assert (await playing.get("/v1/status"))[1]["mode"] == "observe"

    run(scene)


def test_a_saved_mesh_is_switched_while_the_catalog_is_away(tmp_path: Path) -> None:
    """Enforcing must not wait for it."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            await until((tmp_path / "snapshot").exists, "the saved snapshot")
            await playing.peer.__aexit__(None, None, None)
            await started(playing)

    run(scene)
