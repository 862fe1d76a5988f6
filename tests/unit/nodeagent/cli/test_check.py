"""The doctor at the command line."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.cli import check as module
from nodeagent.cli.check import check, read_scope, report_json, screen
from nodeagent.diagnose.facts import AgentState, Blind, Facts, Memory, PortUse
from nodeagent.diagnose.finding import Finding, fail, warn, well
from nodeagent.diagnose.judge import judge
from nodeagent.diagnose.kernel_facts import Release
from nodeagent.probe import host as host_probe
from tests.support.status_of import status_of

GOOD, POOR, BAD = Memory(2**32, 2**33), Memory(1, 2**33), Release("4.19", (4, 19))
HOST = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:1"\n'


def invoke(monkeypatch: pytest.MonkeyPatch, facts: list[Facts], *argv: str):
    """The command, on these facts in turn."""
    monkeypatch.setattr(module, "gather", lambda _scope, _say: facts.pop(0) if len(facts) > 1 else facts[0])
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    return CliRunner().invoke(check, [*argv, "--socket", "/nowhere/api.sock", "--config", "/nowhere/nodeagent.toml"])


@pytest.mark.parametrize(
    ("facts", "argv", "status"),
    [
        (Facts(memory=GOOD), (), 0),
        (Facts(memory=POOR), (), 0),
        (Facts(memory=POOR, release=BAD), (), 1),
        (Facts(agent=AgentState(error="gone"), memory=GOOD), (), 3),
        (Facts(agent=AgentState(error="late", is_silent=True), memory=GOOD), (), 5),
        (Facts(agent=AgentState(problems=("p",))), (), 1),
        (Facts(agent=Blind("closed to uid 7")), (), 3),
        (Facts(memory=GOOD), ("--wait", "60"), 0),
        (Facts(release=BAD), ("--wait", "0.05"), 5),
        (Facts(agent=AgentState(error="gone")), ("--wait", "0.05"), 5),
        (Facts(release=BAD), ("--pre",), 1),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, facts: Facts, argv: tuple[str, ...], status: int) -> None:
    """What is to be looked at is no failure; waiting in vain is a timeout."""
    assert invoke(monkeypatch, [facts], *argv).exit_code == status


def test_waiting_ends_when_nothing_fails_any_more_and_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error: the answer may be read by a program."""
    done = invoke(monkeypatch, [Facts(release=BAD), Facts(release=BAD), Facts(memory=GOOD)], "--wait", "60", "-o", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["ok"] is True
    assert done.stderr.count("1 failed, ") == 2
    assert "Linux 4.19 is too old" in done.stderr


def test_the_screen_has_groups_signs_and_cures() -> None:
    """A terminal's codes are nobody's to send."""
    found = [
        Finding("host", "ports", *well("free")), Finding("host", "memory", *warn("short", "free some")),
        Finding("kernel", "version", *fail("old \x1b[31m", "run a newer one")),
    ]  # fmt: skip
    assert [click.unstyle(line) for line in screen(found)] == [
        "host", "  ✓ ports: free", "  ‼ memory: short", "      free some",
        "kernel", "  \N{MULTIPLICATION SIGN} version: old ?[31m", "      run a newer one",
        "1 well, 1 to look at, 1 failed",
    ]  # fmt: skip


def test_programs_get_json_with_a_version() -> None:
    """The form is a promise."""
    assert json.loads(report_json([Finding("host", "memory", *warn("short", "free some"))], is_pre=True)) == {
        "apiVersion": "nodeagent/v1", "ok": True, "pre": True,
        "findings": [{"group": "host", "name": "memory", "level": "warning", "found": "short", "cure": "free some"}],
    }  # fmt: skip
    assert json.loads(report_json([Finding("host", "x", *fail("a", "b"))], is_pre=False))["ok"] is False
    assert json.loads(report_json([], is_pre=False, is_ok=False))["ok"] is False


def test_who_may_not_ask_the_agent_is_not_told_that_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ok` and the exit status say the same."""
    monkeypatch.setattr(module, "gather", lambda *_: Facts(agent=Blind("closed to uid 7")))
    done = CliRunner().invoke(check, ["-o", "json", "--config", str(tmp_path / "none.toml"), "--socket", str(tmp_path / "sock")])
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (3, False)


def test_a_scope_without_file_and_agent_says_why(tmp_path: Path) -> None:
    """Neither is an error here: it is a finding."""
    scope = read_scope(tmp_path / "none.toml", str(tmp_path / "sock"), is_pre=False)
    assert (scope.config, scope.status) == (None, None)
    assert "cannot be read" in scope.config_error
    assert "no agent at" in scope.agent_error
    assert "systemctl start nodeagent" in scope.agent_cure
    path = tmp_path / "nodeagent.toml"
    path.write_text(HOST)
    assert read_scope(path, None, is_pre=True).settings.host.name == "h"


def test_the_socket_that_was_named_is_in_every_question_and_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whose ports they are that are held, an agent that was not asked cannot tell."""
    asked: list[str] = []

    def ask(path: str, kind: type, *, socket_path: str, config: Path) -> object:
        asked.append(socket_path)
        return replace(status_of(1, "1.0"), problems=["ill"]) if path == "/v1/status" else kind

    monkeypatch.setattr(module, "ask", ask)
    path = tmp_path / "nodeagent.toml"
    path.write_text(HOST)
    scope = read_scope(path, "/a socket", is_pre=False)
    scope.ask_agent("/v1/certs", object)
    assert asked == ["/a socket"] * 2
    assert (scope.is_elsewhere, read_scope(path, "/run/nodeagent/api.sock", is_pre=False).is_elsewhere) == (True, False)
    (found, *_) = judge(Facts(agent=host_probe.agent(scope)))
    assert (found.found, found.cure) == ("ill", "nodeagent status --socket '/a socket'")
    closed = judge(Facts(users=Blind("permission denied")), again=module._again(path, "/a socket", is_pre=False))
    assert [each.cure for each in closed] == [f"run it as root: sudo nodeagent check --config {path} --socket '/a socket'"]
    assert module._again(module.DEFAULT_PATH, None, is_pre=True) == "nodeagent check --pre"


def test_the_real_thing_on_this_machine(tmp_path: Path) -> None:
    """Every probe, no agent."""
    assert os.geteuid() == 0
    done = CliRunner().invoke(check, ["--pre", "-o", "json", "--config", str(tmp_path / "none.toml"), "--socket", str(tmp_path / "sock")])
    findings = json.loads(done.stdout)["findings"]
    assert {"host", "kernel", "firewall", "routing", "time"} == {finding["group"] for finding in findings}


def test_another_user_is_told_what_only_root_sees_and_nothing_that_is_not_so(tmp_path: Path) -> None:
    """A real look by a user without rights, at a host with agent, file and ports that are root's."""
    path, sock = tmp_path / "etc" / "nodeagent.toml", tmp_path / "etc" / "api.sock"
    tmp_path.chmod(0o755)
    path.parent.mkdir(0o700)
    path.write_text(HOST)
    program = "import os, sys; os.setgroups([]); os.setresgid(64999, 64999, 64999); os.setresuid(64999, 64999, 64999)\n"
    program += "from nodeagent.cli.main import main; main(['check', '-o', 'json', *sys.argv[1:]])"
    with socket.create_server(("127.0.0.1", 15020)):
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, "--config", str(path), "--socket", str(sock)], capture_output=True, text=True, check=False, cwd="/"
        )
    rows = json.loads(done.stdout)["findings"]
    said = [line for line in done.stderr.splitlines() if "still looking at" not in line]  # which a busy machine makes it say
    assert (done.returncode, said) == (3, [])
    assert [row for row in rows if row["level"] == "failed"] == []
    closed = {row["group"]: row["name"] for row in rows if row["found"] == "only root can see this"}
    assert closed["host"] == "agent, configuration, users, files, state"
    assert closed["kernel"] == "nftables, identification"
    assert closed["firewall"] == "rules, redirections, managers"
    assert "ports 15020 are held, by whom only root can see" in {row["found"] for row in rows}


def test_on_a_host_of_a_lab_cures_name_the_labs_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent is no unit of systemd's."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(f'{HOST}[intercept]\ncgroup_root = "nodeagent-lab/mine/host1"\n')
    hung = PortUse(15001, "process 7 (nodeagent)", is_of_nodeagent=True)
    monkeypatch.setattr(module, "gather", lambda _scope, _say: Facts(ports=(hung,), agent=AgentState(error="gone")))
    said = CliRunner().invoke(check, ["--config", str(path), "--socket", str(tmp_path / "sock")]).stdout
    assert "nodeagent lab agent --name mine host1 restart" in said
    assert "nodeagent lab agent --name mine host1 logs" in said
    assert "systemctl" not in said


def test_an_agent_that_is_silent_is_told_from_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the exit status is the same as that of `nodeagent status`."""
    monkeypatch.setattr(limits, "API_ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "sock"))
        silent.listen()
        scope = read_scope(tmp_path / "none.toml", str(tmp_path / "sock"), is_pre=False)
    assert (scope.is_agent_silent, "restart nodeagent" in scope.agent_cure) == (True, True)
    assert read_scope(tmp_path / "none.toml", str(tmp_path / "none"), is_pre=False).is_agent_silent is False


def test_an_agent_that_is_replacing_itself_is_told_from_one_that_hangs(tmp_path: Path) -> None:
    """It holds the directory of its socket: nothing is to be restarted."""
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        scope = read_scope(tmp_path / "none.toml", str(tmp_path / "sock"), is_pre=False)
    finally:
        os.close(held)
    assert (scope.is_agent_settling, scope.agent_cure.startswith("ask again")) == (True, True)
    assert read_scope(tmp_path / "none.toml", str(tmp_path / "sock"), is_pre=False).is_agent_settling is False
