"""The archive for a support request, at the command line."""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
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


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory to which other users come; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(prefix="nodeagent-debug-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_another_user_is_told_what_keeps_it_from_them(open_place: Path) -> None:
    """A directory that is closed, without a traceback; what is left out, and that root sees it."""
    closed, theirs = open_place / "closed", open_place / "theirs"
    closed.mkdir(0o700)
    theirs.mkdir()
    os.chown(theirs, 64999, 64999)
    program = "import os, sys; os.setgroups([]); os.setresgid(64999, 64999, 64999); os.setresuid(64999, 64999, 64999)\n"
    program += "from nodeagent.cli.main import main; main(['debug', 'bundle', *sys.argv[1:]])"

    def run(out: Path) -> "subprocess.CompletedProcess[str]":
        options = ["--config", str(open_place / "none.toml"), "--socket", str(open_place / "sock"), "--out", str(out)]
        return subprocess.run([sys.executable, "-P", "-c", program, *options], capture_output=True, text=True, check=False, cwd="/")

    for place in (closed / "x", open_place / "x"):
        done = run(place)
        assert (done.returncode, done.stderr) == (1, f"Error: {place} cannot be written: Permission denied; name another place with --out\n")
    done = run(theirs / "x")
    said = [line for line in done.stderr.splitlines() if "still looking at" not in line]  # which a busy machine makes it say
    assert (done.returncode, said) == (0, ["collecting", "only root sees all of this host: run it with sudo for the rest"])
    assert "missing: rules.txt: permission denied: it takes root" in done.stdout
    assert [path.name for path in theirs.iterdir()] == ["x"]


def test_its_name_is_the_hosts_and_the_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the directory where it was called."""
    monkeypatch.chdir(tmp_path)
    assert invoke(tmp_path).exit_code == 0
    (made,) = tmp_path.glob("nodeagent-host-*Z.tar.gz")
    with tarfile.open(made) as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == {made.name.removesuffix(".tar.gz")}
