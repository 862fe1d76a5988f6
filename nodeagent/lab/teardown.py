"""Ending and removing a lab: whole, half made or crashed, with its state file or without."""

import os
import shutil
from pathlib import Path

from nodeagent.lab import cgroup, enter, layout
from nodeagent.lab import state as states


def take_down(name: str) -> bool:
    """Ends and removes everything of the lab; whether there was anything.

    Raises:
        LabError: another command is busy with it, or something does not go away.
    """
    layout.checked_name(name)
    with states.locked(name):
        return remove_lab(name)


def remove_lab(name: str) -> bool:
    """As `take_down`, for a caller that has the lab's lock.

    Processes are found by their cgroup alone: nothing that the lab did not start can be in there. Namespaces, links,
    rules and the hosts' mounts go with the last process that is in them.
    """
    group = f"{layout.CGROUP}/{name}"
    found = (cgroup.mount() / group).exists() or layout.lab_directory(name).exists()
    cgroup.destroy(group)
    for path in _mounts_below(layout.lab_directory(name), Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
        enter.run_tool(["umount", "--lazy", path])  # an operator's: removing files through it would remove theirs
    if layout.lab_directory(name).exists():
        shutil.rmtree(layout.lab_directory(name))
    with states.locked(""):
        states.release(name)
        if not cgroup.children(layout.CGROUP):
            cgroup.remove(layout.CGROUP)
    return found


def names() -> tuple[str, ...]:
    """Every lab of which there is a directory or a cgroup."""
    return tuple(sorted({*states.lab_names(), *cgroup.children(layout.CGROUP)}))


def _mounts_below(directory: Path, mountinfo: str) -> list[str]:
    """The mount points below `directory`, innermost first."""
    points = (line.split()[4] for line in mountinfo.splitlines())
    return sorted((point for point in points if point.startswith(f"{directory}{os.sep}")), key=len, reverse=True)
