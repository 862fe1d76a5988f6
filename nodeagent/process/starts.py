"""How often this host's agent was started. Ids of connections begin with that, in letters, so that none is given twice.

Whoever comes by a reload goes on with its predecessor's. The number is on disk before it is used.
"""

import errno
import os
import queue
import threading
from pathlib import Path

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process.key_file import why_unbelievable

NAME = "starts"
"""In the state directory, which is control's: what is read there is believed only if root has written it."""
_LETTERS = "bcdfghjkmnpqrstvwxyz"  # without vowels they are no words, and l would be read as 1
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no pipe waited for
_DIGITS = 8
_UNCOUNTED = len(_LETTERS) ** 6  # beyond what is ever counted: a start each second for two years

_COUNTING = "count of starts"
"""The thread's name."""

_log = open_log()


def name_start(number: int) -> str:
    """Letters alone, so that digits may follow: `b` is the first, `z` the 20th, `bb` the 21st."""
    name = ""
    while number > 0:
        number, letter = divmod(number - 1, len(_LETTERS))
        name = _LETTERS[letter] + name
    return name


def count_start(path: Path, draw: float) -> str:
    """The name of this start. Where no disk keeps the count in time it is one by chance (`draw`: 0 to 1), of six or seven letters."""
    counted: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()
    try:
        threading.Thread(target=lambda: counted.put(_try_count(path)), name=_COUNTING, daemon=True).start()
        found = counted.get(timeout=limits.START_COUNT_S)
    except RuntimeError as error:  # what Python makes of the limit on processes
        found = OSError(errno.EAGAIN, str(error))
    except queue.Empty:
        found = TimeoutError(f"the disk did not take it within {limits.START_COUNT_S:g} s")
    if isinstance(found, int):
        return name_start(found)
    _log.warning("start_not_counted", file=str(path), error=str(found), effect="ids of connections are longer until the next start")
    return name_start(int((1 + draw) * _UNCOUNTED))


def is_counting() -> bool:
    """Whether the disk still has a thread of this process, without which it can become no other program (execve(2))."""
    return any(thread.name == _COUNTING for thread in threading.enumerate())


def _try_count(path: Path) -> int | OSError:
    try:
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            return _count(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error


def _count(path: Path, descriptor: int) -> int:
    """One more, written in place: so a full disk counts on, and a power cut leaves this number or the one before."""
    if why := why_unbelievable(os.fstat(descriptor), least=0):
        raise OSError(why)
    text = os.pread(descriptor, _DIGITS + 1, 0)
    if text and not (text.isdigit() and len(text) == _DIGITS and int(text) < _UNCOUNTED):
        raise OSError(f"it holds no count; to begin anew: rm {path}")
    number = int(text or b"0") + 1
    os.pwrite(descriptor, f"{number:0{_DIGITS}}".encode(), 0)
    os.fsync(descriptor)
    if number == 1:
        _keep_name(path.parent)
    return number


def _keep_name(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
