"""GET /v1/route, in front of a whole control."""

from pathlib import Path

from nodeagent.wire.frames import EjectionRow, PartRow, Shared
from tests.support.control_scene import ControlScene
from tests.support.far_ends import snapshot_of
from tests.support.loop import run, until


def test_a_request_is_explained_by_the_snapshot_of_now(tmp_path: Path) -> None:
    """As it is asked: method, path, and headers in a line each."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            playing.peer.allow("shop -> web")
            await until(lambda: (s := snapshot_of(playing.worker)) and s.services["web"].intentions, "the intention")
            status, answer = await playing.get("/v1/route?from=shop&to=web&method=POST&path=/a%3Fb&headers=x-a:1%0Ax-b:2")
            told = answer["explanation"]
            assert (status, answer["apiVersion"], told["passes"]) == (200, "nodeagent/v1", True)
            assert ("shop", "web", "POST", "/a?b") == tuple(told[name] for name in ("source", "destination", "method", "path"))
            assert [("web", "allow", "shop -> web (allow)")] == [(leg["target"], leg["verdict"], leg["why"]) for leg in told["legs"]]
            (candidate,) = told["legs"][0]["candidates"]
            said = Shared([EjectionRow("shop", "web", "", f"{candidate['host']}/{candidate['id']}", 30.0, 1)], [PartRow("shop", "web", "", "requests", 8, 0, 2)])
            playing.worker.send(said)
            await until(lambda: playing.worker.messages[-1] == Shared([], [PartRow("shop", "web", "", "requests", 8, 8, 0, 1)]), "the lease")
            _, answer = await playing.get("/v1/route?from=shop&to=web")
            (leg,) = answer["explanation"]["legs"]
            assert 20 < leg["candidates"][0]["ejected_s"] <= 30
            assert "8 requests of shop: its workers hold 8, and asked for 2" in [step["text"] for step in leg["steps"]]
            _, answer = await playing.get("/v1/route?from=cart&to=web")
            assert answer["explanation"]["passes"] is False

    run(scene)


def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """With what is missing, or is not known."""

    async def scene() -> None:
        async with ControlScene(tmp_path) as playing:
            status, answer = await playing.get("/v1/route?to=web")
            while status == 503:
                assert "no mesh yet" in answer["error"]
                status, answer = await playing.get("/v1/route?to=web")
            for query, expected, says in (
                ("from=shop", 400, "to (with from"),
                ("to=wep", 404, "no service 'wep' is known here; did you mean web?"),
                ("to=web&path=a", 400, "is no path"),
                ("to=web&host=a", 400, "'host': not known here"),
            ):
                status, answer = await playing.get(f"/v1/route?{query}")
                assert (status, says in answer["error"]) == (expected, True), answer

    run(scene)
