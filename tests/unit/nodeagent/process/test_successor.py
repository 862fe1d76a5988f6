"""The self-check of a program that would take over."""

import os
from pathlib import Path

import msgspec
import pytest

from nodeagent.config import Config, load_config
from nodeagent.errors import ConfigError
from nodeagent.process import successor
from nodeagent.process.successor import show_fitness
from redirect.errors import RedirectError
from redirect.settings import Settings

TEXT = (
    '[host]\nname = "h"\naddresses = ["10.0.0.1"]\ncontrol_user = {}\nworker_user = 64902\n'
    '[catalog]\naddress = "https://c:8501"\n[intercept]\nenabled = false\n'
)


def answer(path: Path) -> bytes:
    """What it writes."""
    memory = os.memfd_create("test")
    try:
        show_fitness(path, os.dup(memory))
    finally:
        said = os.pread(memory, 100_000, 0)
        os.close(memory)
    return said


def test_the_configuration_is_handed_on_as_it_was_checked(tmp_path: Path) -> None:
    """Whatever becomes of the file."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format(64901))
    assert msgspec.msgpack.decode(answer(path), type=Config) == load_config(path)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('enabled = false\n[admin]\nwrite_group = "nobody-at-all"', "write_group: there is no group"),
        ('enabled = false\n[admin]\nsocket = "/usr/share/api.sock"', "not a directory of nodeagent's own"),
        ('enabled = false\n[admin]\nsocket = "/no/such/dir/api.sock"', r"admin\.socket: .* cannot be made: /no/such is no directory"),
        ('enabled = false\ncgroup_root = "no/such"', "cgroup_root: 'no/such' is not below"),
    ],
)
def test_what_the_start_would_refuse_is_refused_before(more: str, why: str, tmp_path: Path) -> None:
    """Later there is no predecessor to go on: the agent would die again and again."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format(64901).replace("enabled = false", more))
    with pytest.raises(ConfigError, match=why):
        answer(path)


def test_rules_that_the_kernel_refuses_are_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are judged as they would be at the start, and none is changed."""

    def refuse(_settings: Settings) -> None:
        raise RedirectError("rules of the backend iptables are installed")

    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format(64901).replace("enabled = false", 'backend = "nft"'))
    monkeypatch.setattr(successor, "agent_cgroup", lambda: "x")
    assert answer(path)
    monkeypatch.setattr(successor.kernel, "preview", refuse)
    with pytest.raises(ConfigError, match="cannot be put in place: rules of the backend iptables"):
        answer(path)


@pytest.mark.parametrize(("user", "why"), [("64902", "the same uid"), ('"nobody-at-all"', "no user"), ("-", "nodeagent.toml")])
def test_what_cannot_be_used_here_is_refused(tmp_path: Path, user: str, why: str) -> None:
    """Before anything is replaced."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format(user))
    with pytest.raises(ConfigError, match=why):
        answer(path)
