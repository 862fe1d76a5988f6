"""Cgroup paths as nft wants them. Pure, but for one file that is read."""

import re
from pathlib import Path

from redirect.errors import RedirectError

BELOW = "/sys/fs/cgroup"  # what libnftables puts before every path
_MOUNTINFO = Path("/proc/self/mountinfo")

# What systemd allows in unit names, and the slash. A quote in a path would end nft's string and begin a command of ours.
_SAFE = re.compile(r"[A-Za-z0-9:_.\\@/-]{1,1000}")


def read_mount() -> str:
    """Where cgroup v2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts."""
    return mount_of(_MOUNTINFO.read_text(encoding="utf-8"))


def mount_of(mountinfo: str) -> str:
    """The mount point that nft can use, from the text of /proc/self/mountinfo; the topmost if there are several.

    Mounts inside it are none: for a unit, systemd 257 mounts the file memory.pressure of its cgroup over itself.

    Raises:
        RedirectError: there is none.
    """
    found = ""
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        point = "".join(mount.split(" ")[4:5])
        is_inside = bool(found) and point.startswith(found + "/")
        if file_system.split(" ")[0] == "cgroup2" and f"{point}/".startswith(BELOW + "/") and not is_inside:
            found = point
    if not found:
        raise RedirectError(
            f"cgroup v2 is not mounted at {BELOW} or below, so the agent and units cannot be told apart: "
            f"mount -t cgroup2 none {BELOW}/unified"
        )
    return found


def element_of(mount: str, path: str) -> str | None:
    """The cgroup at `path` below the mount, as a set element; None if no rule could name it."""
    whole = f"{mount}/{path.strip('/')}"
    inner = whole[len(BELOW) + 1 :]
    if not path.strip("/") or ".." in path.split("/") or not _SAFE.fullmatch(inner):
        return None
    return f'"{inner}"'
