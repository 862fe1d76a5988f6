"""How many descriptors this process has left. The kernel gives the lowest free number, so a high one is among the last.

Without any, the event loop's library accepts connections only to close them, and tells nobody: so they are refused a little earlier.
"""

import os
import resource
import sys

from nodeagent import limits
from nodeagent.errors import LimitReached

_STDERR = 2


def check_descriptor(number: int) -> None:
    """Refuses whoever came with one of the last.

    Raises:
        LimitReached: and what to raise.
    """
    if most := _most(number):
        raise LimitReached(f"this worker has used up its {most} descriptors; raise LimitNOFILE=")


def used_up() -> int:
    """How many this process may have, if they are used up; else 0."""
    try:
        free = os.dup(_STDERR)
    except OSError:
        return _most(sys.maxsize)
    os.close(free)
    return _most(free)


def _most(number: int) -> int:
    """How many this process may have, if this is one of the last; else 0."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if number >= most - limits.DESCRIPTORS_SPARE else 0
