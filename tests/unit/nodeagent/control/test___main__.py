"""The control process's arguments."""

import os
from pathlib import Path

import msgspec
import pytest

from nodeagent.config import parse_config
from nodeagent.control.__main__ import main, parse_arguments, read_config
from nodeagent.process.child import closing_memory

TEXT = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\nmode = "{}"\n[catalog]\naddress = "https://c:8501"\n'


def test_arguments_are_the_three_of_the_supervisor() -> None:
    found = parse_arguments(["--config", "/x.toml", "--handover-fd", "7", "--supervisor-fd", "8"])
    assert (found.config, found.handover_fd, found.supervisor_fd) == (Path("/x.toml"), 7, 8)


def test_descriptors_must_be_given() -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--config", "/x.toml"])


def test_a_bad_configuration_ends_it_with_one_line(tmp_path, capsys) -> None:
    path = tmp_path / "nodeagent.toml"
    path.write_text("[host]\nnam = 'x'\n")
    assert main(["--config", str(path), "--handover-fd", "7", "--supervisor-fd", "8"]) == 1
    assert str(path) in capsys.readouterr().err


def test_the_configuration_that_was_passed_is_the_one_that_counts(tmp_path) -> None:
    """Whatever has become of the file since the supervisor checked it."""
    checked = parse_config(TEXT.format("strict"), "test")
    path = tmp_path / "nodeagent.toml"
    path.write_text(TEXT.format("observe") + "[typo]\n")
    with closing_memory("config", msgspec.msgpack.encode(checked)) as memory:
        options = ["--config", str(path), "--config-fd", str(os.dup(memory)), "--handover-fd", "7", "--supervisor-fd", "8"]
        assert read_config(parse_arguments(options)) == checked
