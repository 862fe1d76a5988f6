"""What a lab remembers: its state file, and the locks under which it is changed."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from nodeagent import limits
from nodeagent.config import Backend
from nodeagent.lab import layout
from nodeagent.lab.errors import LabError, NotInLab
from nodeagent.lab.layout import Host
from nodeagent.model.service import Mode


class Holder(msgspec.Struct, frozen=True):
    """The process that keeps a host's namespaces open."""

    pid: int
    started: int
    """Its start time in ticks since boot: a pid alone may be another process by now."""


class ServiceState(msgspec.Struct, frozen=True):
    """A service that `lab run` started."""

    command: tuple[str, ...]
    port: int = 0
    """Registered in the catalog; 0: not registered."""
    addresses: tuple[str, ...] = ()
    """Where it listens and is registered, without the port."""


class LabState(msgspec.Struct, frozen=True):
    """The content of lab.json."""

    name: str
    subnet: int
    hosts: int
    mode: Mode
    workers: int
    ready: bool = False
    """Whether `lab up` came to its end."""
    holders: dict[str, Holder] = {}
    """By host name, the hub included."""
    services: dict[str, dict[str, ServiceState]] = {}
    """By host name and service name."""
    backend: Backend = "auto"
    consul: str = ""
    """The program of a real Consul that is the catalog; empty: the embedded one is."""

    @property
    def hub(self) -> Host:
        """The namespace with the bridge and the catalog."""
        return layout.hub_of(self.name, self.subnet)

    @property
    def members(self) -> tuple[Host, ...]:
        """The hosts, host1 first."""
        return layout.hosts_of(self.name, self.subnet, self.hosts)

    def host(self, name: str) -> Host:
        """The host of that name; `hub` is the hub.

        Raises:
            NotInLab: this lab has none.
        """
        return self.hub if name == layout.HUB else self.member(name)

    def member(self, name: str) -> Host:
        """The host of that name, which has an agent and services; the hub has neither.

        Raises:
            NotInLab: this lab has none.
        """
        for host in self.members:
            if host.name == name:
                return host
        raise NotInLab(f"lab {self.name!r} has no host {name!r}; its hosts: {', '.join(h.name for h in self.members)}")

    def holder(self, host: Host) -> Holder:
        """The living holder of `host`.

        Raises:
            LabError: it died; nothing can enter the host any more.
        """
        holder = self.holders.get(host.name)
        if holder is None or try_start_time(holder.pid) != holder.started:
            raise LabError(
                f"the process that holds {host.name} of lab {self.name!r} is gone; "
                f"run: nodeagent lab down --name {self.name}"
            )
        return holder


def load_state(name: str) -> LabState:
    """The state of the lab `name`.

    Raises:
        NotInLab: there is no such lab.
        LabError: there are only remains of one.
    """
    path = state_path(name)
    try:
        state = msgspec.json.decode(path.read_bytes(), type=LabState)
    except FileNotFoundError as error:
        others = f"; up: {', '.join(lab_names())}" if lab_names() else ""
        raise NotInLab(f"no lab {name!r} is up{others}; run: nodeagent lab up --name {name}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise LabError(f"{path} cannot be read: {error}; run: nodeagent lab down --name {name}") from error
    if not state.ready:
        raise LabError(f"lab {name!r} is half made; wait, or run: nodeagent lab down --name {name}")
    return state


def save_state(state: LabState) -> None:
    """Writes lab.json; a reader sees the old file or the new one."""
    path = state_path(state.name)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    fresh.replace(path)


def state_path(name: str) -> Path:
    """The state file of the lab `name`."""
    return layout.lab_directory(name) / "lab.json"


def lab_names() -> tuple[str, ...]:
    """The labs that have a directory, whole or half made."""
    try:
        return tuple(sorted(entry.name for entry in layout.BASE.iterdir() if entry.is_dir()))
    except FileNotFoundError:
        return ()


def taken_subnets() -> frozenset[int]:
    """The subnets of all labs, half made ones included."""
    return frozenset(subnet for name in lab_names() if (subnet := _try_subnet(name)) is not None)


def _try_subnet(name: str) -> int | None:
    """The subnet of the lab `name`; None: its state is lost. Its network is its own, so another lab may use it again."""
    try:
        return msgspec.json.decode(state_path(name).read_bytes(), type=LabState).subnet
    except (OSError, msgspec.DecodeError):
        return None


def try_start_time(pid: int) -> int | None:
    """When the process started, in ticks since boot; None: it is not there, or dead and not reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@contextmanager
def locked(name: str, wait_s: float = limits.LAB_LOCK_S) -> Iterator[None]:
    """Only one command changes the lab `name` at a time; `""` is what all labs share.

    Raises:
        LabError: another command has it for longer than `wait_s`.
    """
    path = layout.BASE / f"{name}.lock"
    what = f"the lab {name!r}" if name else "the list of labs"
    descriptor = _lock(path, time.monotonic() + wait_s, what)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, deadline: float, what: str) -> int:
    while True:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # another command has just removed the last lab, and the directory with it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise LabError(
                    f"another `nodeagent lab` command is busy with {what}; try again when it is done"
                ) from None
            time.sleep(0.02)
        os.close(descriptor)


def make_mount_points() -> None:
    """The directories that hosts mount their own over; what was missing is noted, for removal. Call it locked."""
    missing = [path for path in layout.OWN_DIRECTORIES.values() if not path.exists()]
    if missing:
        noted = _note().read_text(encoding="utf-8") if _note().exists() else ""
        _note().write_text(noted + "".join(f"{path}\n" for path in missing), encoding="utf-8")
    for path in missing:
        path.mkdir(mode=0o755, parents=True)


def release(name: str) -> None:
    """Removes the lab's lock and, after the last lab, what all labs shared. Call it with both locks."""
    (layout.BASE / f"{name}.lock").unlink(missing_ok=True)
    if any(layout.BASE.glob("?*.lock")) or lab_names():
        return
    for path in _note().read_text(encoding="utf-8").split() if _note().exists() else ():
        _remove_empty(Path(path))
    _note().unlink(missing_ok=True)
    (layout.BASE / ".lock").unlink()
    _remove_empty(layout.BASE)


def _note() -> Path:
    return layout.BASE / "made"


def _remove_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:  # gone, or somebody has put something there: it is theirs now
        return
