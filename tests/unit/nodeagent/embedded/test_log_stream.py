"""A full disk under the log stops nothing."""

import io
from typing import cast

import pytest
import structlog

from nodeagent.embedded.log_stream import DroppingStream
from nodeagent.observe.log import configure_log, open_log


def test_bytes_are_passed_on():
    target = io.BytesIO()
    stream = DroppingStream(target)
    assert stream.write(b"line\n") == 5
    stream.flush()
    assert (target.getvalue(), stream.writable(), stream.dropped) == (b"line\n", True, 0)


def test_a_log_on_a_full_disk_raises_nothing():
    """/dev/full is the kernel's own full disk."""
    with io.FileIO("/dev/full", "w") as full:
        stream = DroppingStream(cast("io.BytesIO", full))
        try:
            configure_log("catalog", stream=stream)
            open_log().error("catalog_write_failed", error="x")
        finally:
            structlog.reset_defaults()
        assert stream.dropped == 1


def test_a_buffer_that_cannot_be_flushed_raises_nothing():
    full = io.BufferedWriter(io.FileIO("/dev/full", "w"), 1 << 16)
    stream = DroppingStream(full)
    stream.write(b"line\n")
    stream.flush()
    assert stream.dropped == 1
    with pytest.raises(OSError, match="space"):
        full.close()
