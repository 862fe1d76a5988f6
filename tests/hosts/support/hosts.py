"""A run of hosts: `with Hosts() as hosts, hosts.up("host1", release="bookworm") as host: host.run("true")`.

All that a run has is in one cgroup and one directory; what a killed run left is removed when the next one begins.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from tests.hosts.support import groups, image
from tests.hosts.support.host import Host
from tests.hosts.support.hub import Hub
from tests.hosts.support.image import Release

PLACE = Path("/var/tmp/nodeagent-hosts")


class Hosts:
    """Use with `with`. Hosts of one run reach each other, and nothing else."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        with _alone():
            sweep()
            self.directory = Path(mkdtemp(prefix="run-", dir=PLACE))
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.name = self.directory.name.replace("_", "-")
        self._group = f"{groups.TOP}/{self.directory.name}"
        self.watch: list[Host] = []  # every host that is up, oldest first

    def __enter__(self) -> Self:
        self._stack.callback(self._remove)
        self.hub = Hub(self.directory, self.name, f"{self._group}/hub")
        self._stack.callback(self.hub.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    @contextmanager
    def up(self, name: str, release: Release = "bookworm", *, product: bool = False) -> Iterator[Host]:
        """A booted host until the block ends. product: with nodeagent's files in their places, nothing enabled or configured."""
        layers = image.product(release) if product else (image.base(release),)
        host = Host(self.hub, name, release, layers, f"{self._group}/{name}")
        self.watch.append(host)
        try:
            host.start()
            yield host
        finally:
            self.watch.remove(host)
            host.close()
            shutil.rmtree(self.directory / name)

    def _remove(self) -> None:
        with _alone():
            _remove_run(self.directory)
            self._lock.close()


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time comes or goes."""
    PLACE.mkdir(exist_ok=True, mode=0o700)
    with (PLACE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sweep() -> None:
    """Removes what killed runs have left: those whose lock nobody holds."""
    for directory in PLACE.glob("run-*"):
        with (directory / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            _remove_run(directory)


def remains(name: str) -> list[str]:
    """Everything of the run whose directory is `name` that is still there."""
    found = [f"cgroup {name}"] if name in groups.names() else []
    found += [f"directory {PLACE / name}"] if (PLACE / name).exists() else []
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left = Path("/run/systemd/nspawn").glob(f"*/*{name.replace('_', '-')}*")
    return found + [f"mount {line}" for line in mounts if name in line] + [f"file {path}" for path in left]


def _remove_run(directory: Path) -> None:
    groups.end(f"{groups.TOP}/{directory.name}")
    shutil.rmtree(directory)
    if not groups.names():
        groups.end(groups.TOP)
    for left in Path("/run/systemd/nspawn").glob(f"*/*{directory.name.replace('_', '-')}*"):  # of nspawns that were killed
        shutil.rmtree(left) if left.is_dir() else left.unlink()
