"""`nodeagent route explain` on a terminal."""

import json

import click
import pytest
from click.testing import CliRunner

from nodeagent.cli import route as module
from nodeagent.cli.main import main
from nodeagent.cli.route import screen
from nodeagent.control.report import RouteAnswer
from nodeagent.decide.asked_request import asked_request
from nodeagent.decide.explain_request import Leased, explain_request, with_shared
from nodeagent.model.snapshot import Snapshot
from tests.support.routed_mesh import routed_mesh


def lines(path: str = "/", *fields: str, made: Snapshot | None = None) -> list[str]:
    told = explain_request(made or routed_mesh(), "shop", "web", asked_request("GET", path, fields))
    return [click.unstyle(line) for line in screen(told)]


def test_the_request_then_each_of_its_ways() -> None:
    """Signs, instances with weight and health, and what the intention says."""
    assert lines("/cart") == [
        "shop -> web: GET /cart",
        "· router  Routes[0] does not match: header x-canary",
        "· router  Routes[1] does not match: path prefix /api/",
        "✓ router  no route matches",
        "90 % web subset v1",
        "  · splitter   of web: 90 % to web subset v1",
        "  ✓ candidate  i1 on h1 at 10.0.0.2:80, weight 1, ok",
        "  · candidate  i2 on h2 at 10.0.0.3:80, weight 1, unhealthy",
        "  ✓ intention  permission 1 of shop -> web (by request) (allow)",
        "10 % web subset v2",
        "  · splitter   of web: 10 % to web subset v2",
        "  · candidate  i3 on h3 at 10.0.0.4:80, weight 1, drained",
        "  ✓ candidate  i4 on h4 at 10.0.0.5:80, weight 5, ok",
        "  ✓ intention  permission 1 of shop -> web (by request) (allow)",
    ]


def test_a_way_without_an_instance_is_marked() -> None:
    """Nobody is there, or nobody who can."""
    healthy = routed_mesh().services["web"].instances
    assert "  \N{MULTIPLICATION SIGN} candidate  no instance of web subset v2 is known" in lines(made=routed_mesh(instances=healthy[:2]))
    assert "  \N{MULTIPLICATION SIGN} candidate  no instance of web subset v2 can take requests" in lines(made=routed_mesh(instances=healthy[:3]))


def test_an_instance_that_workers_leave_alone_is_marked() -> None:
    """And what they have of the caller's bounds."""
    told = explain_request(routed_mesh(), "shop", "web", asked_request("GET", "/", []))
    said = [click.unstyle(line) for line in screen(with_shared(told, {("web", "v1", "h1/i1"): 12.0}, [Leased("web", "v2", "requests", 8, 7, 9)]))]
    assert "  · candidate  i1 on h1 at 10.0.0.2:80, weight 1, ok, ejected for 12 s more" in said
    assert "  · bound      8 requests of shop: its workers hold 7, and asked for 9" in said


def test_a_way_that_leads_nowhere_says_why() -> None:
    """In the place of an intention."""
    assert "  \N{MULTIPLICATION SIGN} way  web has no subset v2" in lines("/", "x-canary: 1", made=routed_mesh(traffic=_without_resolver()))


def _without_resolver():
    import msgspec

    return msgspec.structs.replace(routed_mesh().services["web"].traffic, resolver=None)


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    """Names are an operator's, and paths are anybody's."""
    told = explain_request(routed_mesh(), "shop\x1b[2J", "web", asked_request("GET", "/", []))
    assert "\x1b[2J" not in "".join(screen(told))


@pytest.mark.parametrize(
    "arguments",
    [[], ["--from", "shop"], ["--to", "web"], ["--from", "shop", "--to", "web", "--path", "a"], ["--from", "shop", "--to", "web", "-H", "x"]],
)
def test_it_wants_a_pair_and_a_request(arguments: list[str]) -> None:
    """Exit status 2, before anybody is asked."""
    assert CliRunner().invoke(main, ["route", "explain", *arguments]).exit_code == 2


def test_without_an_agent_it_is_unreachable() -> None:
    """Exit status 3."""
    assert CliRunner().invoke(main, ["route", "explain", "--from", "shop", "--to", "web", "--socket", "/nowhere/api.sock"]).exit_code == 3


def test_the_agent_is_asked_for_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its answer is the exit status."""
    asked = []

    def ask(path: str, kind: type, *, socket_path: str | None, query: dict[str, str]) -> RouteAnswer:
        asked.append((path, query))
        return RouteAnswer(explanation=explain_request(routed_mesh(), query["from"], query["to"], asked_request("GET", query["path"], [])))

    monkeypatch.setattr(module, "ask", ask)
    pair = ["route", "explain", "--from", "shop", "--to", "web"]
    good = CliRunner().invoke(main, [*pair, "--path", "/cart?a", "-H", "x-a: 1", "-H", "x-b: 2", "-o", "json"])
    assert (good.exit_code, json.loads(good.stdout)["explanation"]["passes"]) == (0, True)
    assert [("/v1/route", {"from": "shop", "to": "web", "method": "GET", "path": "/cart?a", "headers": "x-a: 1\nx-b: 2"})] == asked
    assert CliRunner().invoke(main, [*pair, "--path", "/admin"]).exit_code == 1
