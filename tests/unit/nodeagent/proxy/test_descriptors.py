"""Who comes with one of a process's last descriptors is refused while there are some left to say so with."""

import os
import resource
from contextlib import suppress

import pytest

from nodeagent import limits
from nodeagent.errors import LimitReached
from nodeagent.proxy.descriptors import check_descriptor, used_up


def test_whoever_comes_with_one_of_the_last_is_refused() -> None:
    """When some have been closed, all is as before."""
    held = [os.dup(2)]
    most = held[0] + limits.DESCRIPTORS_SPARE + 1
    check_descriptor(held[0])
    assert used_up() == 0
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        with suppress(OSError):
            while True:
                held.append(os.dup(2))
        with pytest.raises(LimitReached, match=f"its {most} descriptors; raise LimitNOFILE="):
            check_descriptor(held[-1])
        assert used_up() == most
        os.close(held.pop())
        assert used_up() == most
        while held:
            os.close(held.pop())
        assert used_up() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in held:
            os.close(each)
