"""Names of starts. That no id of a connection comes twice is tried for real in tests/e2e/test_upgrade_crash.py."""

import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import starts
from nodeagent.process.starts import count_start, name_start
from tests.support.eventually import eventually


def test_names_are_letters_short_and_all_different() -> None:
    """Thousands of starts have three; digits may follow, and none is a word's vowel or an l."""
    assert [name_start(number) for number in (1, 20, 21, 420, 421)] == ["b", "z", "bb", "zz", "bbb"]
    names = [name_start(number) for number in range(1, 8421)]
    assert len(set(names)) == len(names)
    assert set("".join(names)) == set("bcdfghjkmnpqrstvwxyz")


def test_each_start_is_counted_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    assert [count_start(path, 0.5) for _ in range(3)] == ["b", "c", "d"]
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("00000003", 0o600)


def missing(path: Path) -> None:
    path.parent.rmdir()


def linked(path: Path) -> None:
    path.symlink_to("elsewhere")


def foreign(path: Path) -> None:
    path.write_text("00000007")
    path.chmod(0o600)
    os.chown(path, 64901, 0)


def damaged(path: Path) -> None:
    path.write_bytes(b"\xff\x00")
    path.chmod(0o600)


def exhausted(path: Path) -> None:
    path.write_text("64000000")
    path.chmod(0o600)


@pytest.mark.parametrize("break_", [missing, linked, foreign, damaged, exhausted])
def test_a_start_that_is_not_counted_is_named_by_chance(tmp_path: Path, break_) -> None:
    """Longer than any that was counted, and told; the disk's content is not believed."""
    path = tmp_path / "state" / "starts"
    path.parent.mkdir()
    break_(path)
    with capture_logs() as logs:
        names = [count_start(path, draw) for draw in (0.0, 0.3, 0.999)]
    assert (len(set(names)), {len(name) for name in names} <= {6, 7}) == (3, True)
    assert [(entry["event"], bool(entry["error"])) for entry in logs] == [("start_not_counted", True)] * 3


def test_a_start_without_a_thread_is_named_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert len(count_start(tmp_path / "starts", 0.0)) >= 6


def test_a_disk_that_stalls_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a pipe in its place."""
    path = tmp_path / "starts"
    os.mkfifo(path)
    assert len(count_start(path, 0.0)) >= 6
    path.unlink()
    goes_on = threading.Event()
    monkeypatch.setattr(limits, "START_COUNT_S", 0.01)
    monkeypatch.setattr(starts.os, "fsync", lambda _: goes_on.wait())
    with capture_logs() as logs:
        assert len(count_start(path, 0.0)) >= 6
    assert "within 0.01 s" in logs[0]["error"]
    assert starts.is_counting(), "this process could become no other program now"
    goes_on.set()
    eventually(lambda: not starts.is_counting(), 10, "the disk has taken it")
