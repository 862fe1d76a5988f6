"""The clock: whether somebody keeps it."""

import ctypes
import os

from nodeagent.diagnose.facts import TimeService
from nodeagent.probe.scope import Scope

_TIMEX_BYTES = 256  # struct timex has 208; modes of 0: only look
_TIME_ERROR = 5  # the state of a clock that nobody keeps


def time_service(_scope: Scope) -> TimeService:
    """What the kernel knows: every time service tells it that it has set the clock (adjtimex(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return TimeService(state != _TIME_ERROR)
