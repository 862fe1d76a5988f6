"""What both ends of the channel say of keys; that it works is in tests/unit/nodeagent/control/test_key_memory.py."""

import fcntl
import os

import pytest

from nodeagent.wire.key_memory import KEYS, SEALS


def test_sealed_memory_can_be_changed_by_nobody() -> None:
    """Neither its content nor its size, nor the seals themselves."""
    memory = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(memory, KEYS)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    for change in (
        lambda: os.pwrite(memory, b"x", 0), lambda: os.truncate(memory, 0), lambda: os.truncate(memory, 100),
        lambda: fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    ):  # fmt: skip
        with pytest.raises(PermissionError):
            change()
    assert os.pread(memory, 10, 0) == KEYS
    os.close(memory)
