"""The self-check of a program that would take over."""

import os
from pathlib import Path

import msgspec
import pytest

from nodeagent.config import Config, load_config
from nodeagent.errors import ConfigError
from nodeagent.process.successor import show_fitness

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


@pytest.mark.parametrize(("user", "why"), [("64902", "the same uid"), ('"nobody-at-all"', "no user"), ("-", "nodeagent.toml")])
def test_what_cannot_be_used_here_is_refused(tmp_path: Path, user: str, why: str) -> None:
    """Before anything is replaced."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format(user))
    with pytest.raises(ConfigError, match=why):
        answer(path)
