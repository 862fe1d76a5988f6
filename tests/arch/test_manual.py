"""The manual pages say every command, option and setting, and are well-formed."""

import os
import subprocess
from pathlib import Path

import click
import msgspec
import pytest

from nodeagent import config
from nodeagent.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
CONSUL = ("CONSUL_HTTP_ADDR", "CONSUL_HTTP_SSL", "CONSUL_CACERT", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE")
"""What completes the file: nodeagent/consul_environ.py."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, as an installation gets them."""
    made = tmp_path_factory.mktemp("man")
    subprocess.run([ROOT / "script" / "man", made], check=True, env=os.environ | {"SOURCE_DATE_EPOCH": "0"})
    return made


def text(path: Path) -> str:
    """A page as its reader sees it, in one line."""
    shown = subprocess.run(["mandoc", "-O", "width=1000", "-T", "utf8", path], capture_output=True, text=True, check=True).stdout
    return " ".join(subprocess.run(["col", "-b"], input=shown, capture_output=True, text=True, check=True).stdout.split())


def commands(group: click.Group, ctx: click.Context) -> dict[str, click.Command]:
    """Every command that is none of commands, by its words."""
    found: dict[str, click.Command] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        inner = click.Context(command, info_name=name, parent=ctx)
        found |= commands(command, inner) if isinstance(command, click.Group) else {inner.command_path: command}
    return found


def options() -> list[click.Option]:
    """Those of every command."""
    root = click.Context(main, info_name="nodeagent", **main.context_settings)
    found: dict[str, click.Command] = {**commands(main, root), **groups(main, root)}
    return [param for command in found.values() for param in command.params if isinstance(param, click.Option)]


def test_every_command_and_option_is_there(pages: Path) -> None:
    """With the options' help."""
    shown = text(pages / "man1" / "nodeagent.1")
    found = commands(main, click.Context(main, info_name="nodeagent", **main.context_settings))
    assert len(found) > len(COMMANDS)
    assert [] == [name for name in (*found, *(name for option in options() for name in option.opts)) if name not in shown]


def groups(group: click.Group, ctx: click.Context) -> dict[str, click.Group]:
    """Every command of commands below this one, by its words."""
    found: dict[str, click.Group] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        inner = click.Context(command, info_name=name, parent=ctx) if command else ctx
        if isinstance(command, click.Group):
            found |= {inner.command_path: command} | groups(command, inner)
    return found


def test_what_holds_for_several_commands_is_said_once(pages: Path) -> None:
    """As of policy, where it says how keys are written and where kinds are kept."""
    shown = text(pages / "man1" / "nodeagent.1")
    found = groups(main, click.Context(main, info_name="nodeagent", **main.context_settings))
    assert {"nodeagent policy", "nodeagent catalog token", "nodeagent catalog snapshot"} <= set(found)
    firsts = {name: " ".join((group.help or "").partition("\n\n")[0].split()) for name, group in found.items()}
    assert [] == [name for name, first in firsts.items() if not first or first.replace("`", "") not in shown.replace("`", "")]
    assert "may be written as PathPrefix or path_prefix" in shown


def test_every_variable_that_is_asked_for_is_there(pages: Path) -> None:
    """Of options, of the catalog's clients, and of Consul's that complete the file."""
    shown = text(pages / "man1" / "nodeagent.1").partition(" ENVIRONMENT ")[2].partition(" FILES ")[0]
    asked = {"NO_COLOR", *CONSUL, *(option.envvar for option in options() if option.envvar)}
    assert {"NODEAGENT_SOCKET", "NODEAGENT_LAB"} < asked
    assert [] == sorted(name for name in asked if name not in shown)


def test_what_can_be_repeated_says_so() -> None:
    """Else who has two services makes two tokens."""
    assert [] == [option.opts[0] for option in options() if option.multiple and "Can be repeated" not in (option.help or "")]


def test_every_setting_is_there(pages: Path) -> None:
    """By its table, with its default."""
    shown = text(pages / "man5" / "nodeagent.toml.5")
    assert set(config.TABLES) == set(config.Config.__struct_fields__)
    for name, kind in config.TABLES.items():
        assert f"[{name}" in shown
        assert [] == [field.name for field in msgspec.structs.fields(kind) if f"{field.name} = " not in shown]
    assert 'mode = "observe" | "permissive" | "strict" (default: "strict")' in shown
    assert "workers = whole number, 0 to 42 (default: 0)" in shown


def test_the_pages_are_well_formed(pages: Path) -> None:
    """In the eyes of mandoc, which is stricter than groff."""
    for page in sorted(pages.rglob("nodeagent*")):
        if page.is_file():
            assert subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False).stdout == ""


def test_a_build_can_be_repeated(pages: Path) -> None:
    """The date is the one that was asked for."""
    assert '"1970-01-01"' in (pages / "man1" / "nodeagent.1").read_text()


def test_a_call_without_a_directory_is_a_usage_error() -> None:
    """It says how it is called."""
    done = subprocess.run([ROOT / "script" / "man"], capture_output=True, text=True, check=False)
    assert (done.returncode, "Usage: script/man DIR" in done.stderr) == (2, True)
