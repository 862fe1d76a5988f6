"""What systemd is asked of the agent's unit."""

from pathlib import Path

import pytest

from nodeagent.cli import agent_unit as module
from nodeagent.cli.agent_unit import Unit, look_at, parse_unit


@pytest.mark.parametrize(
    ("shown", "unit"),
    [
        ("ActiveState=failed\nUnitFileState=enabled\n", Unit(has_failed=True)),
        ("ActiveState=inactive\nUnitFileState=disabled\n", Unit(is_disabled=True)),
        ("ActiveState=activating\nUnitFileState=enabled\n", Unit()),
        ("ActiveState=inactive\nUnitFileState=\n", Unit()),
        ("", Unit()),
        ("what\n", Unit()),
    ],
)
def test_what_systemd_shows(shown: str, unit: Unit) -> None:
    assert parse_unit(shown) == unit


@pytest.mark.parametrize(
    ("program", "unit"),
    [
        ('echo "ActiveState=failed"; test "$4" = x.service && echo UnitFileState=disabled', Unit(has_failed=True, is_disabled=True)),
        ("exec sleep 60", Unit()),
        ("printf '\\377'", Unit()),
        ("echo no bus >&2; exit 1", Unit()),
    ],
)
def test_systemd_is_asked_once_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, unit: Unit) -> None:
    """Where it does not answer, nothing is known."""
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, "_ASKED_S", 60.0 if unit != Unit() else 0.5)
    assert look_at("x.service") == unit


def test_where_there_is_no_systemd_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look_at("x.service") == Unit()
