"""Control's memory of keys on disk, for boots without the CA: `identity.persist = "disk"`. Not looked into here.

It is written by a program of its own (`process/key_writer`): a disk that stalls must not stop the beat.
"""

import asyncio
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from nodeagent import limits
from nodeagent.observe.log import open_log
from nodeagent.process import privileges
from nodeagent.process.child import START_ERRORS, Process, start_program, watch_program
from nodeagent.wire.key_memory import SEALS

NAME = "keys"
"""In the state directory, which is control's: what is read there is believed only if root has written it."""
_MODE = 0o600
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link is followed, no pipe waited for

_log = open_log()


def try_key_file(path: Path) -> int:
    """A descriptor of sealed memory with what the file holds; -1: there is none, or, with a warning, none to be believed."""
    try:
        return _sealed(_read(path))
    except FileNotFoundError:
        return -1
    except OSError as error:
        _log.warning("key_file_ignored", file=str(path), error=str(error), effect="tunnels need the CA, which is asked anew")
        return -1


def why_unbelievable(found: os.stat_result, least: int = 1) -> str:
    """Why such a file, of `least` bytes or more, was not written by us; empty: it was."""
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if found.st_uid != 0:
        return f"it belongs to uid {found.st_uid}, not to root"
    if stat.S_IMODE(found.st_mode) != _MODE:
        return f"its mode is {stat.S_IMODE(found.st_mode):04o}, not {_MODE:04o}"
    if found.st_nlink != 1:
        return "it has another name elsewhere: a hard link to somebody else's file"
    if not least <= found.st_size <= limits.KEYS_BYTES:
        return f"it has {found.st_size} bytes, not {least} to {limits.KEYS_BYTES}"
    return ""


def remove_key_file(path: Path) -> None:
    """No key stays on disk that may not be there, also none of a write that was cut off."""
    for each in (path, path.with_name(f"{path.name}.new")):
        try:
            each.lstat()  # or a disk that is read-only would be blamed for nothing
            each.unlink()
            _log.info("key_file_removed", file=str(each), why='identity.persist is "memory"')
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.warning("key_file_not_removed", error=str(error), cure=f"if it is there: rm -r {each}")


class KeyFile:
    """Follows on disk what is held in memory. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, path: Path, environ: Mapping[str, str], newest: Callable[[], int]
    ) -> None:
        """`newest`: the descriptor of what shall be there; -1: nothing is written."""
        self._loop = loop
        self._path = path
        self._environ = environ
        self._newest = newest
        self._process: Process | None = None
        self._is_due = False
        self._failure = ""
        """The last one's reason."""
        self._retry: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Of the program that writes; 0: none does."""
        return self._process.pid if self._process else 0

    def save(self) -> None:
        """Writes the newest, if need be after what is just being written. A failure is told once, and tried again."""
        self._is_due = True
        if self._process is None:
            self._write()

    async def settle(self) -> None:
        """Waits for what is being written, but not for a disk that stalls: then there is what was there before."""
        try:
            async with asyncio.timeout(limits.QUIET_S):
                while self._process:
                    await self._process.ended.wait()
        except TimeoutError:
            if self._process:
                self._process.signal(signal.SIGKILL)

    def _write(self) -> None:
        self._is_due = False
        if self._retry:
            self._retry.cancel()
        keys = self._newest()
        if keys < 0:
            return
        try:
            arguments = [str(self._path), str(keys)]
            pid = start_program("nodeagent.process.key_writer", arguments, (keys,), self._environ, _give_up_rights)
            self._process = watch_program(self._loop, pid, self._end)
        except START_ERRORS as error:
            self._fail(str(error))

    def _end(self, code: int | None) -> None:
        self._process = None
        if code == 0:
            self._failure = ""
        else:
            self._fail(_reason(code))
        if self._is_due:
            self._write()

    def _fail(self, why: str) -> None:
        if why != self._failure:
            _log.warning("keys_not_saved", file=str(self._path), error=why, effect="a boot without the CA has older keys, or none")
        self._failure = why
        self._retry = self._loop.call_later(limits.KEY_FILE_S, self.save)


def _read(path: Path) -> bytes:
    """Looked at before it is opened, too: root without capabilities is refused what is another's, and would not know why."""
    _check(path.lstat())
    descriptor = os.open(path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        _check(found)
        return os.read(descriptor, found.st_size)
    finally:
        os.close(descriptor)


def _check(found: os.stat_result) -> None:
    if why := why_unbelievable(found):
        raise OSError(why)


def _sealed(content: bytes) -> int:
    memory = os.memfd_create("nodeagent-keys", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, content)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
    return memory


def _give_up_rights() -> None:
    """The directory is of root's group: to write there takes no capability."""
    privileges.keep_only({})


def _reason(code: int | None) -> str:
    if code is None:
        return "nobody knows what became of it"
    if code == -signal.SIGALRM:
        return f"the disk did not take it within {limits.KEY_FILE_S:g} s"
    return os.strerror(code) if code > 0 else f"it was cut off by signal {-code}"
