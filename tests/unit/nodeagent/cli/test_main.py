"""The `nodeagent` command."""

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nodeagent import __version__
from nodeagent.cli import main as cli
from nodeagent.cli.main import COMMANDS, main
from nodeagent.errors import (
    CatalogError,
    CatalogTimeout,
    CatalogUnreachable,
    ConfigError,
    ConfigMissing,
    Denied,
    NotInCatalog,
    PolicyError,
)


def test_version_and_help_are_one_call_away() -> None:
    """Both spellings of help; every command is listed with what it does."""
    assert f"nodeagent, version {__version__}\n" == CliRunner().invoke(main, ["--version"]).output
    for option in ("-h", "--help"):
        shown = CliRunner().invoke(main, [option])
        assert shown.exit_code == 0
        assert [] == [name for name in COMMANDS if name not in shown.output]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str) -> None:
    """The table names nothing that is not there."""
    shown = CliRunner().invoke(main, [name, "--help"])
    assert (0, True) == (shown.exit_code, shown.output.startswith("Usage: main " + name))


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, and where to look."""
    shown = CliRunner().invoke(main, ["frobnicate"])
    assert cli.EXIT_USAGE == shown.exit_code
    assert "No such command 'frobnicate'" in shown.output


@pytest.mark.parametrize(("typed", "meant"), [("stauts", "status"), ("intentions", "intention"), ("Check", "check")])
def test_a_command_that_is_mistyped_is_answered_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    """None of them is loaded for that."""
    shown = CliRunner().invoke(main, [typed])
    assert (shown.exit_code, f"No such command '{typed}'; did you mean {meant}?" in shown.output) == (cli.EXIT_USAGE, True)


def test_our_own_errors_are_one_line_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback for what the operator can put right."""
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.commands:broken")
    shown = CliRunner().invoke(main, ["broken"])
    assert (cli.EXIT_FAILED, "Error: host.mode: no such mode\n") == (shown.exit_code, shown.output)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CatalogUnreachable("c"), cli.EXIT_UNREACHABLE),
        (NotInCatalog("c"), cli.EXIT_NOT_FOUND),
        (CatalogTimeout("c"), cli.EXIT_TIMEOUT),
        (CatalogError("c"), cli.EXIT_FAILED),
        (ConfigMissing("c"), cli.EXIT_NOT_FOUND),
        (ConfigError("c"), cli.EXIT_FAILED),
        (Denied("c"), cli.EXIT_FAILED),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """A script can tell a denial from a catalog that is away."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("tests.support.commands.broken", click.Command("broken", callback=fail))
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.commands:broken")
    shown = CliRunner().invoke(main, ["broken"])
    assert (status, "Error: c\n") == (shown.exit_code, shown.output)


@pytest.mark.parametrize("kind", [ConfigError, CatalogError, PolicyError, click.ClickException])
def test_no_error_commands_the_terminal(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    """Which may quote a file, a catalog or an agent; a log that it shows keeps its lines."""

    def fail() -> None:
        raise kind("x \x1b]0;y\x07\n  \x9bz")

    monkeypatch.setattr("tests.support.commands.broken", click.Command("broken", callback=fail))
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.commands:broken")
    shown = CliRunner().invoke(main, ["broken"])
    assert (cli.EXIT_FAILED, "Error: x ?]0;y?\n  ?z\n") == (shown.exit_code, shown.output)


def test_only_the_module_of_the_command_is_loaded() -> None:
    """Start-up is felt at every call: the version loads neither the data plane nor the catalog's server."""
    code = "import sys; from nodeagent.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.split()
    assert [] == [name for name in ("aiohttp", "uvloop", "ngh2", "rich", "pyroute2", "cryptography", "nodeagent.cli.run") if name in loaded]


def test_another_full_place_is_not_taken_for_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has no room is called by its name."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/var/lib/x")

    monkeypatch.setattr("tests.support.commands.broken", click.Command("broken", callback=fail))
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.commands:broken")
    shown = CliRunner().invoke(main, ["broken"])
    assert (cli.EXIT_FAILED, "Error: /var/lib/x: No space left on device: make room on that disk\n") == (shown.exit_code, shown.output)


def test_output_that_cannot_be_written_is_one_sentence() -> None:
    """A full disk is no defect of ours."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "nodeagent", "lab", "status", "-o", "json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EROFS])
def test_a_path_that_cannot_be_used_is_a_sentence_wherever_that_is_noticed(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What has no path is a defect, and shown as one."""
    error = OSError(number, "no", "/root/x")

    def fail() -> None:
        raise error

    monkeypatch.setattr("tests.support.commands.broken", click.Command("broken", callback=fail))
    monkeypatch.setitem(COMMANDS, "broken", "tests.support.commands:broken")
    shown = CliRunner().invoke(main, ["broken"])
    assert (cli.EXIT_FAILED, "Error: /root/x: no; is it the path that was meant? Else try sudo\n") == (shown.exit_code, shown.output)
    error = OSError(number, "no")
    assert CliRunner().invoke(main, ["broken"]).exception is error
