"""Draining, at the command line."""

import json
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodeagent.cli import drain as module
from nodeagent.cli.agent_api import AgentSilentError, AgentUnreachableError
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.drain import drain, inbound, summary, undrain
from nodeagent.cli.main import main
from nodeagent.control.report import ConnectionsAnswer
from nodeagent.errors import CatalogTimeout, CatalogUnreachable
from nodeagent.model.outcome import ConnectionRow

Asked = list[tuple[str, str, dict[str, str]]]


def row(direction: str, opened_at: float = 0.0, destination: str = "web") -> ConnectionRow:
    return ConnectionRow(id="0-1", direction=direction, client="c", original_dst="d", opened_at=opened_at, destination=destination)  # type: ignore[arg-type]


@pytest.fixture
def host(tmp_path: Path) -> list[str]:
    """A host's configuration, as options."""
    path = tmp_path / "nodeagent.toml"
    path.write_text('[host]\nname = "host1"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "http://127.0.0.1:1"\n')
    return ["--config", str(path)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the catalog is asked; it agrees."""
    seen: Asked = []
    monkeypatch.setattr(Client, "ask", lambda _self, method, path, _body=None, **query: seen.append((method, path, query)))
    return seen


def agent(monkeypatch: pytest.MonkeyPatch, *answers: ConnectionsAnswer | click.ClickException) -> None:
    """The agent's answers, the last one for ever."""
    left = list(answers)

    def ask(*_: object, **__: object) -> ConnectionsAnswer:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, click.ClickException):
            raise answer
        return answer

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)


def answer(*rows: ConnectionRow, unanswered: int = 0) -> ConnectionsAnswer:
    return ConnectionsAnswer(connections=list(rows), total=len(rows), unanswered=unanswered)


def test_connections_of_other_hosts_count_and_those_of_our_own_services_do_not() -> None:
    rows = [row("outbound"), row("tunnel", 20.0), row("plaintext", 10.0)]
    assert [each.direction for each in inbound(rows)] == ["plaintext", "tunnel"]
    assert summary(inbound(rows)) == "2 connections from other hosts are open, to web, the oldest since 1970-01-01 00:00:10"


@pytest.mark.parametrize(
    ("rows", "unanswered", "total", "said"),
    [
        (1, 0, 1, "1 connections from other hosts are open, to web, the oldest since 1970-01-01 00:00:10"),
        (1, 2, 1, "at least 1 connections from other hosts are open (2 workers did not tell theirs), to web, the oldest of them since 1970-01-01 00:00:10"),
        (1, 0, 9, "at least 1 connections from other hosts are open (1 of 9 connections were looked at), to web, the oldest of them since 1970-01-01 00:00:10"),
        (0, 2, 0, "2 workers did not tell their connections"),
        (0, 0, 9, "0 of 9 connections were looked at, and none of them is from another host"),
        (0, 0, 0, ""),
    ],
)
def test_what_is_not_known_whole_is_said_to_be_at_least_so_much(monkeypatch: pytest.MonkeyPatch, rows: int, unanswered: int, total: int, said: str) -> None:
    """Also to programs, whom a number would deceive."""
    told = ConnectionsAnswer(connections=[row("tunnel", 10.0)] * rows, total=total, unanswered=unanswered)
    agent(monkeypatch, told)
    left = module._look("/x", Path("/nowhere"))
    assert left.words == said
    assert left.number == (rows if not unanswered and total == rows else None)


def test_a_host_goes_and_comes_back(host: list[str], asked: Asked) -> None:
    assert CliRunner().invoke(drain, [*host, "--reason", "new disk"]).output == "drained: host1 takes no new work\n"
    assert CliRunner().invoke(undrain, host).output == "back at work: host1\n"
    assert asked == [
        ("PUT", "/v1/agent/maintenance", {"enable": "true", "reason": "new disk", "node": "host1"}),
        ("PUT", "/v1/agent/maintenance", {"enable": "false", "reason": "", "node": "host1"}),
    ]


def test_waiting_tells_what_is_open_until_nothing_is(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    agent(monkeypatch, answer(row("tunnel")), answer(row("tunnel"), row("tunnel")), answer(row("tunnel")), answer(unanswered=1), answer(row("outbound")))
    done = CliRunner().invoke(drain, [*host, "--wait", "60"])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "no connection from another host is open")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["2", "1", "1"]
    assert "1 workers did not tell their connections" in done.stderr
    assert len(asked) == 1


def test_an_agent_that_replaces_itself_meanwhile_is_waited_for(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    agent(monkeypatch, answer(row("tunnel")), answer(row("tunnel")), AgentUnreachableError("nobody"), AgentSilentError("late"), answer())
    done = CliRunner().invoke(drain, [*host, "--wait", "60"])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "no connection from another host is open")
    assert "the agent does not tell its connections; " in done.stderr


def test_a_silent_agent_costs_no_more_than_the_wait(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look has what is left of it, and at least what a busy agent needs; only the first, before anything is changed, its usual time."""
    seen: list[float] = []

    def ask(*_: object, patience_s: float, **__: object) -> ConnectionsAnswer:
        seen.append(patience_s)
        if len(seen) > 1:
            raise AgentSilentError("late")
        return answer(row("tunnel"))

    monkeypatch.setattr(module, "ask", ask)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    assert CliRunner().invoke(drain, [*host, "--wait", "0.05"]).exit_code == 5
    assert (seen[0], 0.01 < seen[1] <= 0.05, min(seen[1:])) == (0, True, 0.01)
    assert all(later <= sooner for sooner, later in pairwise(seen[1:]))
    seen.clear()
    CliRunner().invoke(drain, [*host, "--wait", "0"])
    assert seen == [0, 0.01]


def test_a_catalog_that_is_silent_may_do_it_yet(host: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It was told, so nobody can say that nothing was changed."""

    def ask(*_: object, **__: object) -> None:
        raise CatalogTimeout("http://127.0.0.1:1: no answer in time; is the way to the catalog filtered?")

    monkeypatch.setattr(Client, "ask", ask)
    done = CliRunner().invoke(main, ["drain", *host])
    assert (done.exit_code, done.stdout) == (5, "")
    assert "is the way to the catalog filtered? It was told, and may do it yet: say it again when it answers" in done.stderr


def test_waiting_in_vain_is_a_timeout_and_the_host_stays_drained(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    agent(monkeypatch, answer(row("tunnel")))
    done = CliRunner().invoke(drain, [*host, "--wait", "0.05"])
    assert done.exit_code == 5
    assert "1 connections from other hosts are open" in done.stderr
    assert [query["enable"] for _, _, query in asked] == ["true"]


def test_without_an_agent_to_ask_nothing_is_changed(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    agent(monkeypatch, AgentUnreachableError("nobody"))
    assert CliRunner().invoke(drain, [*host, "--wait", "1"]).exit_code == 3
    assert asked == []
    assert CliRunner().invoke(drain, host).exit_code == 0, "without --wait no agent is needed"


def test_a_catalog_that_is_away_is_said(host: list[str]) -> None:
    for command in (drain, undrain):
        done = CliRunner().invoke(command, host)
        assert isinstance(done.exception, CatalogUnreachable)
        assert "nobody listens there" in str(done.exception)


def test_programs_get_one_document(host: list[str], asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the wait was in vain: what is open is in it, and standard error says so as ever."""
    agent(monkeypatch, answer(row("tunnel")), answer())
    head = {"apiVersion": "nodeagent/v1", "host": "host1"}
    waited = CliRunner().invoke(drain, [*host, "--wait", "60", "-o", "json"])
    assert (waited.exit_code, json.loads(waited.stdout)) == (0, head | {"drained": True, "open": 0, "why": ""})
    assert json.loads(CliRunner().invoke(undrain, [*host, "-o", "json"]).stdout) == head | {"drained": False, "open": None, "why": ""}
    agent(monkeypatch, answer(row("tunnel")))
    in_vain = CliRunner().invoke(drain, [*host, "--wait", "0.05", "-o", "json"])
    told = json.loads(in_vain.stdout)
    assert (in_vain.exit_code, told["open"], told["why"].split(",")[0]) == (5, 1, "1 connections from other hosts are open")
    assert "Error: 1 connections" in in_vain.stderr
