"""The run directory: it exists, and only one agent at a time holds it."""

import fcntl
import os
import stat
from pathlib import Path

from nodeagent.errors import ConfigError
from nodeagent.process.privileges import User

_MODE = 0o1775
_RECORD = "intercept.json"  # `nodeagent intercept apply` may have made the directory, for this file


def check_run_dir(path: Path, control: User) -> None:
    """Changes nothing.

    Raises:
        ConfigError: the directory cannot be made, or `prepare_run_dir` would refuse it.
    """
    _check_name(path)
    try:
        if path.exists():
            _check_found(path, path.stat(), control)
        elif not path.parent.is_dir():
            raise ConfigError(f"admin.socket: {path} cannot be made: {path.parent} is no directory; make it, or name another")
    except OSError as error:
        raise ConfigError(f"admin.socket: {path} cannot be used: {error.strerror}") from error


def prepare_run_dir(path: Path, control: User) -> None:
    """Makes the directory root's, with room for control's socket, unless systemd or the lab has made it so.

    Sticky: control makes its socket there and can neither remove nor replace what root keeps beside it.

    Raises:
        ConfigError: it cannot be made, or is not the agent's alone: /run or /tmp must never become control's.
    """
    _check_name(path)
    try:
        path.mkdir(exist_ok=True)
        found = path.stat()
        _check_found(path, found, control)
        if not _is_ready(found, control):
            os.chown(path, 0, control.gid)
            path.chmod(_MODE)
    except OSError as error:
        raise ConfigError(f"{path} cannot be prepared: {error.strerror}; run: systemd-tmpfiles --create") from error


def _check_name(path: Path) -> None:
    if not path.is_absolute() or path.parent == Path("/") or path.is_symlink():
        raise ConfigError(_no_place(path))


def _check_found(path: Path, found: os.stat_result, control: User) -> None:
    if not stat.S_ISDIR(found.st_mode) or not (_is_ready(found, control) or _is_ours(path, found, control)):
        raise ConfigError(_no_place(path))


def _is_ready(found: os.stat_result, control: User) -> bool:
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, control.gid, _MODE)


def _is_ours(path: Path, found: os.stat_result, control: User) -> bool:
    """Whether the directory is control's or its group's, or a private one of root's with nothing of others in it."""
    if control.uid == found.st_uid != 0 or (found.st_uid == 0 and control.gid == found.st_gid != 0):
        return True
    is_private = found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_private and {entry.name for entry in path.iterdir()} <= {_RECORD}


def _no_place(path: Path) -> str:
    return f"admin.socket: {path} is not a directory of nodeagent's own; use one such as /run/nodeagent/api.sock"


def lock_run_dir(path: Path, proc_locks: Path = Path("/proc/locks")) -> int:
    """A descriptor that holds the directory's lock as long as it is open.

    The lock is on the directory itself: a file in it could be removed or replaced by control, to whom it belongs.

    Raises:
        ConfigError: another agent holds it; names its process where the kernel tells.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"the run directory {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        inode = os.fstat(fd).st_ino
        os.close(fd)
        holder = find_holder(proc_locks.read_text(encoding="ascii"), inode)
        raise ConfigError(
            f"another nodeagent is running on this host (it holds {path}{f', process {holder}' if holder else ''})"
        ) from None
    return fd


def take_run_dir(path: Path, held: int) -> int:
    """A descriptor that holds the directory's lock: `held`, by which a predecessor locked it; a new one for another directory.

    Raises:
        ConfigError: another agent holds it.
    """
    try:
        if os.path.samestat(os.fstat(held), path.stat()):
            return held
        os.close(held)
    except OSError:
        pass
    return lock_run_dir(path)


def find_holder(locks: str, inode: int) -> int:
    """The process that holds a flock on `inode`, from /proc/locks; 0: it is not told."""
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4])
    return 0
