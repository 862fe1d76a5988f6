"""The supervisor refuses before it changes anything. What it does is tried for real in tests/e2e."""

import os
from pathlib import Path

import pytest

from nodeagent.config import parse_config
from nodeagent.errors import ConfigError
from nodeagent.process.supervisor import run_supervisor

TEXT = (
    '[host]\nname = "h"\naddresses = ["10.0.0.1"]\ncontrol_user = 64901\nworker_user = 64901\n'
    '[catalog]\naddress = "https://c:8501"\n[admin]\nsocket = "{}/run/api.sock"\n'
)


def test_a_refusal_comes_before_anything_is_made(tmp_path: Path) -> None:
    """No run directory, no lock."""
    with pytest.raises(ConfigError, match="the same uid 64901"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
    assert list(tmp_path.iterdir()) == []


def test_who_is_not_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cure."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="must be started as root"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
