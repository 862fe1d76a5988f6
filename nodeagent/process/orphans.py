"""Workers whose supervisor crashed or was restarted: they finish what they carry, and hear nobody."""

import os
import signal
from pathlib import Path

_PROC = Path("/proc")


def find_orphans(cgroup: Path, worker_uid: int, proc: Path = _PROC) -> list[int]:
    """Processes of the workers' user in the agent's cgroup; that user runs nothing else there."""
    try:
        pids = [int(pid) for pid in (cgroup / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return []
    return [pid for pid in pids if _uid(proc / str(pid)) == worker_uid]


def end_orphans(cgroup: Path, worker_uid: int) -> int:
    """Kills them; how many there were. Each is looked at again once its number cannot become another's."""
    count = 0
    for pid in find_orphans(cgroup, worker_uid):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if pid in find_orphans(cgroup, worker_uid):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                count += 1
        except ProcessLookupError:
            continue
        finally:
            os.close(pidfd)
    return count


def _uid(directory: Path) -> int:
    """A process's real uid; -1: it is gone."""
    try:
        lines = (directory / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1]) for line in lines if line.startswith("Uid:")), -1)
