"""The cgroup v2 tree: where it is mounted, which units live in it, and word of every change at once."""

import ctypes
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process.units import UnitCgroup, is_trusted_slice, is_unit_name, unit_of
from redirect.cgroup import mount_of
from redirect.errors import RedirectError

_IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x40, 0x80, 0x100, 0x200
_IN_ONLYDIR = 0x01000000
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_EVENTS_BYTES = 65_536
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)  # what a cgroup that was just removed answers

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Scan:
    """One look at the slices."""

    units: dict[str, UnitCgroup]
    slices: tuple[Path, ...]
    """Directories in which units may appear."""


@dataclass(frozen=True, slots=True)
class IdScan:
    """One look at the cgroups of units."""

    units: dict[int, str]
    """By cgroup id."""
    is_whole: bool
    """Not cut off by the limit: what is not in it is in no unit."""


def find_cgroup2_mount(mountinfo: str) -> Path:
    """Where cgroup v2 is mounted, from /proc/self/mountinfo: the mount that the rules name cgroups by.

    Raises:
        ConfigError: there is none.
    """
    try:
        return Path(mount_of(mountinfo))
    except RedirectError as error:
        raise ConfigError(str(error)) from error


def own_cgroup(proc_cgroup: str) -> str:
    """The cgroup v2 path of a process below the mount, from its /proc/PID/cgroup; empty: the root."""
    for line in proc_cgroup.splitlines():
        if line.startswith("0::"):
            return line[3:].strip("/")
    return ""


def scan_units(root: Path) -> Scan:
    """The units below `root` and the slices that hold them. One directory is read per slice."""
    units: dict[str, UnitCgroup] = {}
    slices: list[Path] = []
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        slices.append(directory)
        for entry in _directories(directory):
            path = Path(entry.path)
            if is_trusted_slice(entry.name):
                waiting.append(path)
            elif is_unit_name(entry.name):
                units[entry.name] = UnitCgroup(str(path.relative_to(root)), entry.inode())
    return Scan(units, tuple(slices))


def scan_ids(root: Path) -> IdScan:
    """Every cgroup of a unit below `root`; about CGROUPS_MAX at most.

    Only slices that hold units, and units, are looked into: a user may have more cgroups than there is time for.
    """
    found: dict[int, str] = {}
    waiting = [(root, "")]
    while waiting and len(found) < limits.CGROUPS_MAX:
        directory, unit = waiting.pop()
        for entry in _directories(directory):
            of = unit or unit_of(entry.name)
            if of:
                found[entry.inode()] = of
            if of or is_trusted_slice(entry.name):
                waiting.append((Path(entry.path), of))
    return IdScan(found, is_whole=not waiting)


def _directories(directory: Path) -> Iterator["os.DirEntry[str]"]:
    """Sub-directories; none where the cgroup has just gone."""
    try:
        with os.scandir(directory) as entries:
            yield from [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _explain(code: int) -> str:
    """What an errno of inotify means, and the cure."""
    match code:
        case errno.ENOSPC:
            return f"root's watches are used up; {_raise_sysctl('max_user_watches', 524_288)}"
        case errno.EMFILE:
            return f"no descriptor is left, or root's instances are used up; {_raise_sysctl('max_user_instances', 1024)}"
    return os.strerror(code)


def _raise_sysctl(name: str, value: int) -> str:
    return f"raise fs.inotify.{name}: sysctl -w fs.inotify.{name}={value}, and in /etc/sysctl.d for the next start"


class SliceWatch:
    """Tells by a readable descriptor that units came or went. Owned by the supervisor."""

    def __init__(self) -> None:
        self._fd: int = _libc.inotify_init1(_IN_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"inotify: {_explain(code)}")

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._fd

    def watch(self, directory: Path) -> int:
        """The number of the watch on a slice, the same however often it is asked; 0 when the slice has gone.

        Raises:
            OSError: no watch is left; the message names the sysctl and the cure.
        """
        mask = _IN_CREATE | _IN_DELETE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_ONLYDIR
        number: int = _libc.inotify_add_watch(self._fd, os.fsencode(directory), mask)
        if number >= 0:
            return number
        if (code := ctypes.get_errno()) in _GONE:
            return 0
        raise OSError(code, f"inotify on {directory}: {_explain(code)}")

    def clear(self) -> None:
        """Reads away what has been told; what it says is found out by a scan, an overflow included."""
        try:
            while os.read(self._fd, _EVENTS_BYTES):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)
