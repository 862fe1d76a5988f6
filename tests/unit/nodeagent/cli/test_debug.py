"""The archive for a support request, at the command line."""

import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main


def invoke(tmp_path: Path, *argv: str):
    """On a host without agent and file."""
    options = ["--config", str(tmp_path / "none.toml"), "--socket", str(tmp_path / "sock")]
    return CliRunner().invoke(main, ["debug", "bundle", *options, *argv])


def test_an_archive_of_a_host_without_an_agent(tmp_path: Path) -> None:
    """It says what is missing, and is root's alone."""
    out = tmp_path / "x.tar.gz"
    done = invoke(tmp_path, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    assert "missing: status.json: no agent at" in done.stdout
    with tarfile.open(out) as archive:
        (check,) = [archive.extractfile(name) for name in archive.getnames() if name.endswith("/check.json")]
        assert check is not None
        assert json.load(check)["ok"] is False


def test_nothing_is_replaced_nor_followed(tmp_path: Path) -> None:
    """A link that somebody laid there leads nowhere."""
    for name, make in (("file", lambda path: path.write_text("mine")), ("link", lambda path: path.symlink_to(tmp_path / "elsewhere"))):
        path = tmp_path / name
        make(path)
        done = invoke(tmp_path, "--out", str(path))
        assert (done.exit_code, "is there already" in done.output) == (1, True)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_place_that_takes_no_file_is_said(tmp_path: Path) -> None:
    """And nothing is left there."""
    done = invoke(tmp_path, "--out", str(tmp_path / "no" / "x.tar.gz"))
    assert done.exit_code == 1
    assert "cannot be written: No such file or directory; name another place with --out" in done.output


def test_its_name_is_the_hosts_and_the_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the directory where it was called."""
    monkeypatch.chdir(tmp_path)
    assert invoke(tmp_path).exit_code == 0
    (made,) = tmp_path.glob("nodeagent-host-*Z.tar.gz")
    with tarfile.open(made) as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == {made.name.removesuffix(".tar.gz")}
