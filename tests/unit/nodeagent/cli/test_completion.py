"""Completion, as a shell asks for it."""

import http.server
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from nodeagent.cli.completion import hosts
from nodeagent.cli.main import main
from nodeagent.control.report import ConnectionsAnswer, InstancePart, ServicePart, ServicesAnswer
from nodeagent.model.outcome import ConnectionRow

INSTANCE = InstancePart(id="w", host="host2", addresses=[], healthy=True, is_local=False, is_meshed=True)
PARTS = [ServicePart(name=name, protocol="tcp", mode="strict", instances=[INSTANCE], intentions=[]) for name in ("web", "wiki", "shop")]
ROW = ConnectionRow(id="0-17", direction="outbound", client="c", original_dst="d", opened_at=0.0)
ANSWERS = {
    "/v1/services": ServicesAnswer(generation=1, services=PARTS, wildcards=[]),
    "/v1/connections?closed=1&limit=100": ConnectionsAnswer(connections=[ROW], total=1),
}


class _Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = msgspec.json.encode(ANSWERS[self.path])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an agent that knows three services."""
    path = str(tmp_path / "sock")
    with socketserver.ThreadingUnixStreamServer(path, _Agent) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def completed(line: str) -> list[str]:
    """What click offers after `line`, as bash asks."""
    words = line.split(" ")
    asked = {"_NODEAGENT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    program = "from nodeagent.cli.main import main; main(prog_name='nodeagent')"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [row.partition(",")[2] for row in done.stdout.splitlines() if row]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nodeagent why --socket {0} --to w", ["web", "wiki"]),
        ("nodeagent why --socket {0} --from ", ["shop", "web", "wiki"]),
        ("nodeagent why --socket {0} 0-", ["0-17"]),
        ("nodeagent connections --socket {0} --service s", ["shop"]),
        ("nodeagent enforce --socket {0} --service z", []),
        ("nodeagent enforce --since 1", ["1h", "1d"]),
        ("nodeagent lab catalog re", ["restart"]),
        ("nodeagent catalog snapshot ", ["inspect", "restore", "save"]),
        ("nodeagent catalog token create --any", ["--any-service", "--any-host"]),
        ("nodeagent policy get service-de", ["service-defaults"]),
        ("nodeagent policy d", ["delete", "diff"]),
        ("nodeagent stauts --o", []),
    ],
)
def test_names_come_from_the_agent(agent: str, line: str, offered: list[str]) -> None:
    """Those that begin as what was typed."""
    assert completed(line.format(agent)) == offered


def test_without_an_agent_commands_are_completed_all_the_same(tmp_path: Path) -> None:
    """No name is offered, and nothing is said."""
    assert completed(f"nodeagent why --socket {tmp_path}/none --to w") == []
    assert completed("nodeagent che") == ["check"]


def test_versions_are_those_that_are_installed(tmp_path: Path) -> None:
    """Side by side; nothing is offered where none are."""
    for version in ("0.1.0", "0.2.0"):
        program = tmp_path / "versions" / version / "bin" / "nodeagent"
        program.parent.mkdir(parents=True)
        program.touch(0o755)
    assert completed(f"nodeagent upgrade --root {tmp_path} 0.") == ["0.1.0", "0.2.0"]
    assert completed(f"nodeagent upgrade --root {tmp_path}/none 0.") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_name_the_command(shell: str) -> None:
    """As the shell wants it; one that is here judges it."""
    script = CliRunner().invoke(main, ["completion", shell]).output
    assert "_NODEAGENT_COMPLETE" in script
    assert f"{shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_fish_shows_what_a_command_does_whole() -> None:
    """With all that follows its first comma."""
    script = CliRunner().invoke(main, ["completion", "fish"]).output
    assert 'string split -m 1 "," $completion' in script


def test_another_shell_is_a_usage_error() -> None:
    """With the three that there are."""
    done = CliRunner().invoke(main, ["completion", "ksh"])
    assert (done.exit_code, "'bash', 'zsh', 'fish'" in done.output) == (2, True)


def test_hosts_are_completed_where_a_host_is_meant(agent: str) -> None:
    """Of those that run services."""
    ctx = click.Context(main)
    ctx.params["socket_path"] = agent
    assert hosts(ctx, click.Option(["--node"]), "ho") == ["host2"]
