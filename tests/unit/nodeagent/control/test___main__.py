"""The control process's arguments."""

from pathlib import Path

import pytest

from nodeagent.control.__main__ import main, parse_arguments


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
