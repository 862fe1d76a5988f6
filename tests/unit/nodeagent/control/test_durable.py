"""Files that are replaced whole."""

import os
import resource
import signal

import pytest

from nodeagent.control.durable import replace_file


def test_a_file_is_made_and_replaced_with_its_mode_whatever_the_umask(tmp_path) -> None:
    path = tmp_path / "snapshot"
    before = os.umask(0o077)
    try:
        for data in (b"one", b"two"):
            replace_file(path, data, 0o644)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_way_is_removed_and_not_followed(tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "snapshot.new").symlink_to(victim)
    replace_file(tmp_path / "snapshot", b"data")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "snapshot").read_bytes() == b"data"


def test_a_write_that_fails_leaves_what_was_there_and_no_rest(tmp_path) -> None:
    path = tmp_path / "snapshot"
    replace_file(path, b"old")
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            replace_file(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
