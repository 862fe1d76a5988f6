"""cgroup v2 subtrees: where the mount is, making, reading, killing and removing them; knows nothing of labs."""

import os
import signal
import time
from pathlib import Path

from nodeagent import limits
from nodeagent.lab.errors import LabError

_BELOW = Path("/sys/fs/cgroup")  # nft can name no cgroup of another mount


def find_mount(mountinfo: str) -> Path:
    """Where cgroup v2 is mounted, on a pure or hybrid machine: the mount that the agents choose, the topmost below _BELOW.

    mountinfo: the text of /proc/self/mountinfo.

    Raises:
        LabError: it is not, or only elsewhere.
    """
    found = None
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        point = Path(fields.split(" ")[4])
        is_inside = found is not None and point != found and point.is_relative_to(found)
        if kind.startswith("cgroup2 ") and point.is_relative_to(_BELOW) and not is_inside:
            found = point
    if found is None:
        raise LabError(f"cgroup v2 is not mounted at {_BELOW} or below; try: mount -t cgroup2 none {_BELOW}/unified")
    return found


def mount() -> Path:
    """Where this machine's cgroup v2 tree is mounted."""
    return find_mount(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def make(path: str) -> Path:
    """The directory of the cgroup `path` (relative to the mount), made with its parents.

    Raises:
        LabError: the kernel or the mount does not let us.
    """
    directory = mount() / path
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{directory}: the cgroup cannot be made: {error.strerror}; is the mount writable?") from error
    return directory


def make_afresh(path: str) -> Path:
    """The cgroup `path`, a new one if the old one is empty: as systemd does when a unit starts."""
    directory = mount() / path
    if directory.exists() and not is_populated(path):
        remove(path)
    return make(path)


def is_populated(path: str) -> bool:
    """Whether any process lives in the cgroup or below."""
    try:
        return "populated 1" in (mount() / path / "cgroup.events").read_text(encoding="ascii")
    except OSError:
        return False


def pids(path: str) -> tuple[int, ...]:
    """The processes in the cgroup and below."""
    found: list[int] = []
    for directory in (mount() / path, *_below(mount() / path)):
        try:
            found.extend(int(pid) for pid in (directory / "cgroup.procs").read_text(encoding="ascii").split())
        except OSError:  # removed while we walked
            continue
    return tuple(found)


def terminate(path: str, grace_s: float) -> bool:
    """SIGTERM to all in the cgroup; whether they are gone within `grace_s`."""
    for pid in pids(path):
        _signal(pid, signal.SIGTERM)
    return wait_empty(path, grace_s)


def kill(path: str) -> None:
    """Ends all in the cgroup and below, at once, and returns when they are gone.

    Raises:
        LabError: some do not die.
    """
    deadline = time.monotonic() + limits.LAB_KILL_S
    while True:
        try:
            (mount() / path / "cgroup.kill").write_text("1", encoding="ascii")
        except OSError:  # gone, or a kernel before 5.14
            for pid in pids(path):
                _signal(pid, signal.SIGKILL)
        if wait_empty(path, 0.5):
            return
        if time.monotonic() > deadline:
            raise LabError(f"processes {pids(path)} in {mount() / path} do not die; look at them with ps")


def destroy(path: str) -> None:
    """Ends all in the cgroup and below, and removes it.

    Again, if need be: a program that an interrupted command had just started may enter between the two.

    Raises:
        LabError: something does not go away.
    """
    deadline = time.monotonic() + limits.LAB_KILL_S
    while True:
        kill(path)
        try:
            return remove(path)
        except LabError:
            if time.monotonic() > deadline:
                raise


def wait_empty(path: str, seconds: float) -> bool:
    """Whether the cgroup is empty within `seconds`."""
    deadline = time.monotonic() + seconds
    while is_populated(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def remove(path: str) -> None:
    """Removes the empty cgroup and those below it, if it is there.

    Raises:
        LabError: a process is in it.
    """
    directory = mount() / path
    for each in (*_below(directory), directory):
        try:
            each.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LabError(f"{each}: the cgroup cannot be removed: {error.strerror}") from error


def children(path: str) -> tuple[str, ...]:
    """The names of the cgroups right below `path`."""
    try:
        return tuple(sorted(entry.name for entry in (mount() / path).iterdir() if entry.is_dir()))
    except FileNotFoundError:
        return ()


def _below(directory: Path) -> list[Path]:
    """The cgroups below `directory`, deepest first."""
    return [Path(top) for top, _, _ in os.walk(directory, topdown=False)][:-1]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it was quicker
