"""What root reads from control's directory."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.control.saved_capture import save_capture
from nodeagent.process.capture import Capture
from nodeagent.process.saved_capture import try_saved_capture
from nodeagent.wire.capture_file import NAME, encode_capture
from nodeagent.wire.frames import CaptureFrame
from tests.support.mesh import mesh


def test_what_control_has_saved_is_captured_again(tmp_path: Path) -> None:
    """Before anybody has asked the catalog."""
    save_capture(tmp_path, mesh())
    capture = try_saved_capture(tmp_path)
    assert capture is not None
    assert "10.77.0.2" in capture.addresses
    assert capture.ports == (7000, 9000)


def test_each_value_is_checked_as_if_control_said_it(tmp_path: Path) -> None:
    """Nobody locks a host out by a file."""
    (tmp_path / NAME).write_bytes(encode_capture(CaptureFrame(["10.0.0.1", "127.0.0.1"], [80, 22])))
    assert try_saved_capture(tmp_path) == Capture(("10.0.0.1",), (80,), ("address '127.0.0.1'", "port 22"))


def test_before_the_first_save_there_is_nothing_to_say(tmp_path: Path) -> None:
    """A new host is no reason for a warning."""
    with capture_logs() as log:
        assert try_saved_capture(tmp_path) is None
    assert log == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[1]", b'{"type":"records","rows":[]}', b'{"type":"capture","addresses":[1],"ports":[]}']
)
def test_garbage_is_ignored_with_a_warning(content: bytes, tmp_path: Path) -> None:
    """The agent starts all the same."""
    (tmp_path / NAME).write_bytes(content)
    with capture_logs() as log:
        assert try_saved_capture(tmp_path) is None
    assert [line["event"] for line in log] == ["saved_capture_ignored"]


def test_a_file_that_is_too_long_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control cannot fill root's memory."""
    monkeypatch.setattr(limits, "CONTROL_FRAME_BYTES", 100)
    (tmp_path / NAME).write_bytes(encode_capture(CaptureFrame(["10.0.0.1"] * 50, [])))
    assert try_saved_capture(tmp_path) is None


def test_root_follows_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    """The directory belongs to another user."""
    path = tmp_path / NAME
    (tmp_path / "elsewhere").write_bytes(encode_capture(CaptureFrame(["10.0.0.1"], [])))
    path.symlink_to("elsewhere")
    assert try_saved_capture(tmp_path) is None
    path.unlink()
    os.mkfifo(path)
    assert try_saved_capture(tmp_path) is None
