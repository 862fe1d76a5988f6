"""A sink for lines never waits."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.observe.sink import Sink, open_sink
from tests.support.eventually import eventually

WITHIN_S = 10.0


def test_lines_are_written_in_their_order(tmp_path: Path) -> None:
    """To a file that it makes, for the owner to write and the group to read."""
    path = tmp_path / "log"
    with Sink(path) as sink:
        for number in range(1000):
            sink.write(b"%d\n" % number)
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(1000))
    assert path.stat().st_mode & 0o777 & ~0o640 == 0


def test_a_reader_that_stands_still_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full pipe, as of a journal that hangs: neither the writer nor the end waits for it, and what is lost is counted."""
    monkeypatch.setattr(limits, "LOG_FAREWELL_S", 0.01)
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stream:
        sink = Sink(stream)
        line = b"x" * 80 + b"\n"  # the pipe takes 809 of them
        for _ in range(limits.LOG_LINES_QUEUED + 1000):
            sink.write(line)
        assert 0 < sink.dropped <= 1000
        sink.close()
        os.set_blocking(read, False)

        def has_ended() -> bool:
            with suppress(BlockingIOError):
                os.read(read, 1 << 20)
            sink.close()
            return not sink._thread.is_alive()

        eventually(has_ended, 60, "all was read, and the thread has ended")
    os.close(read)


def test_a_file_that_was_renamed_away_is_made_anew(tmp_path: Path) -> None:
    """As logrotate does it: no line goes to the old one after that."""
    path = tmp_path / "log"
    with Sink(path) as sink:
        sink.write(b"one\n")
        eventually(lambda: path.exists() and path.read_bytes() == b"one\n", WITHIN_S, "the first line")
        path.rename(tmp_path / "log.1")
        sink.write(b"two\n")
    assert path.read_bytes() == b"two\n"
    assert (tmp_path / "log.1").read_bytes() == b"one\n"


def test_a_link_in_the_file_s_place_is_not_followed(tmp_path: Path) -> None:
    """Somebody else's file is not written to."""
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    with Sink(tmp_path / "log") as sink:
        sink.write(b"one\n")
    assert not (tmp_path / "victim").exists()
    assert (sink.dropped, "Too many levels" in sink.error) == (1, True)


def test_it_writes_again_when_it_can(tmp_path: Path) -> None:
    """The directory was missing for a while."""
    path = tmp_path / "late" / "log"
    sink = Sink(path)
    sink.write(b"lost\n")
    eventually(lambda: sink.error, WITHIN_S, "the failure")
    path.parent.mkdir()
    sink.write(b"kept\n")
    sink.close()
    assert (path.read_bytes(), sink.error, sink.dropped) == (b"kept\n", "", 1)


def test_where_it_writes_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`stdout`, a file, or nowhere."""
    assert open_sink("off") is None
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        sink = open_sink("stdout")
        assert sink
        sink.write(b"one\n")
        sink.close()
    assert (tmp_path / "out").read_text() == "one\n"
    other = open_sink(str(tmp_path / "file"))
    assert other
    other.write(b"two\n")
    other.close()
    assert (tmp_path / "file").read_text() == "two\n"


def test_a_log_that_cannot_be_written_says_so_once_and_once_when_it_can(tmp_path: Path) -> None:
    """In the journal, with the cure; however many lines are lost between."""
    path = tmp_path / "not" / "log"
    sink = open_sink(str(path))
    assert sink is not None
    with capture_logs() as journal, sink:
        for _ in range(100):
            sink.write(b"lost\n")
        eventually(lambda: sink.dropped == 100, WITHIN_S, "the lines are lost")
        path.parent.mkdir()
        for _ in range(3):
            sink.write(b"kept\n")
    assert [line["event"] for line in journal] == ["connection_log_failed", "connection_log_written_again"]
    assert "No such file" in journal[0]["error"]
    assert "control_user" in journal[0]["cure"]
    assert path.read_bytes() == b"kept\n" * 3
