"""What a supervisor that crashed or was restarted has left: workers that finish what they carry, and what does not end by itself."""

import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CONTROL, _HELPERS = b"nodeagent.control", (b"nodeagent.process.", b"redirect.iptables_helper")
"""Modules that the supervisor starts: as control's user, and as its own."""
_SENTRY = b"nodeagent.process.sentry"
"""Of these it goes on alone when its supervisor is gone, and is none of those that should have seen that."""


@dataclass(frozen=True, slots=True)
class Kin:
    """Who belongs to this agent."""

    cgroup: Path
    control_uid: int
    worker_uid: int


def find_orphans(cgroup: Path, worker_uid: int, proc: Path = _PROC) -> list[int]:
    """Processes of the workers' user in the agent's cgroup; that user runs nothing else there."""
    return [pid for pid in _pids(cgroup) if _fields(proc / str(pid)).get("Uid") == str(worker_uid)]


def is_orphan(pid: int, kin: Kin) -> bool:
    """Whether it is one of them; to be asked of each, without a look at all."""
    return pid in _pids(kin.cgroup) and _fields(_PROC / str(pid)).get("Uid") == str(kin.worker_uid)


def end_orphans(cgroup: Path, worker_uid: int) -> int:
    """Kills them; how many there were."""
    return len(_end(lambda: find_orphans(cgroup, worker_uid)))


def end_surplus(kin: Kin, kept: int, ours: Collection[int] = ()) -> list[int]:
    """Kills the oldest of the workers that were left and are not `ours`, but for `kept`; the pids."""
    return _end(lambda: sorted(set(find_orphans(kin.cgroup, kin.worker_uid)).difference(ours), key=born_tick)[: -kept or None])


def end_sentries(kin: Kin, own: int) -> list[int]:
    """Kills those of earlier supervisors and programs, one of which may be a child of ours by now; the pids. `own` watches instead."""
    return _end(lambda: [pid for pid in _pids(kin.cgroup) if pid != own and _is_sentry(pid)])


def end_remains(kin: Kin, ours: Collection[int] = (), *, is_overdue: bool) -> list[int]:
    """Kills what was left and is not `ours` nor of our children: what is stopped (SIGSTOP) and would never end; the pids.

    is_overdue: also control and helpers that run; by now they should have seen that their supervisor is gone.
    """
    return _end(lambda: [pid for pid in _pids(kin.cgroup) if pid not in ours and _is_left(pid, kin, ours, is_overdue=is_overdue)])


def _is_left(pid: int, kin: Kin, ours: Collection[int], *, is_overdue: bool) -> bool:
    """A worker that is being born is a child of our spawner, and still looks like it."""
    fields = _fields(_PROC / str(pid))
    uid = int(fields.get("Uid", -1))
    if int(fields.get("PPid", -1)) in ours:
        return False
    module = _module(_PROC / str(pid))
    is_helper = (uid == kin.control_uid and module == _CONTROL) or (uid == os.getuid() and module.startswith(_HELPERS))
    return (is_helper and is_overdue and module != _SENTRY) or ((is_helper or uid == kin.worker_uid) and fields["State"] == "T")


def _is_sentry(pid: int) -> bool:
    return _fields(_PROC / str(pid)).get("Uid") == str(os.getuid()) and _module(_PROC / str(pid)) == _SENTRY


def _end(find: Callable[[], list[int]]) -> list[int]:
    """Those that were killed. Each is looked for again once its number cannot become another's."""
    ended: list[int] = []
    for pid in find():
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if pid in find():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                ended.append(pid)
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)
    return ended


def _module(directory: Path) -> bytes:
    """What `python -m` runs there; somebody's shell in the agent's cgroup runs other things."""
    words = _read(directory / "cmdline").split(b"\0")
    return words[words.index(b"-m") + 1] if b"-m" in words[:-1] else b""


def _pids(cgroup: Path) -> list[int]:
    return [int(pid) for pid in _read(cgroup / "cgroup.procs").split()]


def born_tick(pid: int) -> int:
    """When that process was born, in ticks; 0: it is gone (proc(5), field 22 of stat, the 20th after the name)."""
    rest = _read(_PROC / str(pid) / "stat").rpartition(b")")[2].split()
    return int(rest[19]) if len(rest) > 19 else 0


def age_s(pid: int) -> float:
    """For how long that process lives."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - born_tick(pid) / os.sysconf("SC_CLK_TCK")


def _fields(directory: Path) -> dict[str, str]:
    """The first value of each line of a process's status (`Uid` is the real one); none: it is gone."""
    rows = (line.split() for line in _read(directory / "status").decode(errors="replace").splitlines())
    return {row[0].rstrip(":"): row[1] for row in rows if len(row) > 1}


def _read(path: Path) -> bytes:
    """What is in the file; nothing where it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
