"""`nodeagent intercept`: usage and configuration errors; what it does to a kernel is in tests/e2e/test_redirect_cli.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from redirect.kernel import Report
from tests.support.nft_sets import NftSets

COMMANDS = ("plan", "apply", "show", "remove", "verify")
OFF = """
[host]
name = "host1"
addresses = ["10.77.0.1"]
[catalog]
address = "https://127.0.0.1:8501"
[intercept]
enabled = false
"""


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and everything that was printed."""
    result = CliRunner().invoke(main, ["intercept", *arguments])
    return result.exit_code, result.output


def test_every_command_is_listed_and_takes_a_file_where_it_reads_one() -> None:
    """`remove` takes one unseen: the units of older packages name it, and one of them may stop the rules of this program."""
    assert all(command in run("--help")[1] for command in COMMANDS)
    for command in COMMANDS:
        status, text = run(command, "--help")
        assert status == 0
        assert ("--config" in text) == (command in ("plan", "apply", "verify"))
        assert "--output" in text
    assert all(option in run("remove", "--help")[1] for option in ("--now", "--force"))
    assert run("show", "--config", "/nowhere.toml")[0] == 2


def test_removal_as_an_older_unit_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not refused as wrong usage: rules would stay."""
    monkeypatch.setattr("nodeagent.cli.intercept.kernel", SimpleNamespace(try_agent_port=lambda: None, remove=lambda **_: Report()))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert run("remove", "--config", "/etc/nodeagent/nodeagent.toml") == (0, "Nothing was installed.\n")


@pytest.mark.parametrize("command", ["plan", "apply", "verify"])
def test_a_configuration_that_cannot_be_read_is_one_line(command: str) -> None:
    """With the file's name."""
    assert run(command, "--config", "/nowhere/nodeagent.toml")[0] == 4
    assert "/nowhere/nodeagent.toml" in run(command, "--config", "/nowhere/nodeagent.toml")[1]


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_interception_that_is_off_needs_no_kernel(command: str, tmp_path: Path) -> None:
    """Neither users nor catalog have to exist then."""
    path = tmp_path / "off.toml"
    path.write_text(OFF, encoding="utf-8")
    assert run(command, "--config", str(path)) == (0, "intercept.enabled is false: nothing is captured on this host\n")
    assert run(command, "--config", str(path), "-o", "json") == (0, '{\n  "apiVersion": "nodeagent/v1",\n  "enabled": false\n}\n')


@pytest.mark.parametrize("command", ["show", "remove"])
def test_another_user_is_told_to_be_root(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the kernel's own words."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run(command) == (1, "Error: the kernel shows and changes its rules for root alone: run it as root (sudo)\n")


def test_an_unknown_output_is_a_usage_error() -> None:
    """Exit status 2, as everywhere."""
    assert run("show", "-o", "yaml")[0] == 2
    assert "[table|json]" in run("show", "--help")[1]


def test_sets_that_cannot_be_filled_are_one_line_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1 and no traceback, though the rules themselves are installed."""
    kernel = NftSets(monkeypatch)
    kernel.delete_table()
    kernel.refuses = True
    (tmp_path / "capture.json").write_text('{"type":"capture","addresses":["10.90.1.2"],"ports":[8080]}')
    path = tmp_path / "on.toml"
    users = "control_user = 64901\nworker_user = 64902\n[catalog]"
    text = OFF.replace("enabled = false", "enabled = true").replace("[catalog]", users)
    path.write_text(f'{text}[admin]\nstate_dir = "{tmp_path}"\n', encoding="utf-8")
    status, text = run("apply", "--config", str(path))
    assert (status, text.splitlines()) == (1, [text.strip()])
    assert text.startswith("Error: elements of table inet nodeagent: nft: ")
