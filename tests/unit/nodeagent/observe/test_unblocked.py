"""Standard error never waits, and says what it lost."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.observe.unblocked import Unblocked

LINE = b"x" * 99 + b"\n"


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """(write, read); what is written waits like a pipe of anybody, or like journald's socket. Full at first."""
    with ExitStack() as stack:
        if request.param == "socket":
            write, read = (stack.enter_context(end).fileno() for end in socket.socketpair())
        else:
            read, write = os.pipe()
            stack.callback(os.close, read)
            stack.callback(os.close, write)
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while os.write(write, b"." * 4096):
                pass
        os.set_blocking(write, True)
        yield write, read


def taken(read: int, stream: Unblocked) -> bytes:
    """All that comes out when somebody reads again."""
    found = b""
    while True:
        try:
            found += os.read(read, 1 << 20)
        except BlockingIOError:
            before = len(found)
            stream.flush()
            with suppress(BlockingIOError):
                found += os.read(read, 1 << 20)
            if len(found) == before:
                return found.lstrip(b".")


def test_what_nobody_reads_waits_in_memory_and_comes_in_its_order(ends: tuple[int, int]) -> None:
    """No write of it waits, and the open file, which others may share, is as it was."""
    write, read = ends
    stream = Unblocked(write, "test")
    lines = [b"%d\n" % number for number in range(1000)]
    for line in lines:
        assert stream.write(line) == len(line)
    assert os.get_blocking(write)
    assert taken(read, stream) == b"".join(lines)
    assert stream.dropped == 0
    stream.close()


def test_what_does_not_fit_is_dropped_and_told_when_there_is_room(ends: tuple[int, int]) -> None:
    """After what was kept, as a line like all others."""
    write, read = ends
    stream = Unblocked(write, "test")
    kept = limits.STDERR_BYTES_QUEUED // len(LINE)
    for _ in range(kept + 7):
        stream.write(LINE)
    *lines, told = taken(read, stream).splitlines(keepends=True)
    assert lines == [LINE] * kept
    assert {"process": "test", "event": "log_lines_lost", "number": 7}.items() <= json.loads(told).items()
    assert stream.dropped == 0
    stream.close()


def test_a_full_disk_costs_lines_and_no_exception() -> None:
    """They are counted."""
    with Path("/dev/full").open("wb") as full:
        stream = Unblocked(full.fileno(), "test")
        stream.write(LINE)
        stream.write(LINE * 2)
        stream.flush()
        assert stream.dropped == 3
        stream.close()


def test_a_pipe_is_opened_anew_for_this_process_alone() -> None:
    """Also tracebacks of others' making do not wait then; whoever has the other open file does not notice."""
    read, write = os.pipe()
    code = (
        "import os, sys; from nodeagent.observe.unblocked import own_stderr, unblock_stderr\n"
        "own_stderr(); unblock_stderr('test'); assert not os.get_blocking(2)\n"
        "print('said', file=sys.stderr); raise SystemExit('and ended')"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=write, check=False)
    assert os.get_blocking(write)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == b"said\nand ended\n"
    assert done.returncode == 1
