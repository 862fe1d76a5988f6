"""The machine: configuration, programs, users, files, room, ports, memory, descriptors."""

import dataclasses
import importlib
import importlib.util
import os
import platform
import pwd
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

import nodeagent
from nodeagent.closed_files import closed_to_root
from nodeagent.config import agent_ports
from nodeagent.consul_environ import FROM_ENVIRONMENT
from nodeagent.control.report import Status
from nodeagent.diagnose.facts import (
    AgentState,
    ConfigFile,
    Descriptors,
    FileState,
    Memory,
    PortUse,
    Programs,
    Room,
    StartLink,
)
from nodeagent.errors import ConfigError
from nodeagent.probe.scope import Scope
from nodeagent.process import preflight
from nodeagent.process.port_holder import (
    describe_process,
    is_lab_store,
    is_nodeagent,
    is_systemd,
    listening_inodes,
    try_holders,
)
from nodeagent.process.privileges import User, resolve_user

OPERATOR_TOKEN = "/etc/nodeagent/operator.token"  # noqa: S105 - a path
_LIBRARIES = (
    "aiofastnet", "aiohttp", "click", "cryptography", "msgspec", "ngh2", "prometheus_client", "pyroute2", "pyseccomp", "rich",
    "structlog", "uvloop",
)  # fmt: skip
_PROC = Path("/proc")
Silence = Literal["hang", "unasked", "settling"]
_ROOT, _PROGRAM = Path("/opt/nodeagent"), Path("bin/nodeagent")


def agent(scope: Scope) -> AgentState | None:
    """What the agent says of itself."""
    if scope.is_pre:
        return None
    if scope.is_agent_closed:
        raise PermissionError(scope.agent_error)
    if scope.status is None:
        return AgentState(error=scope.agent_error, cure=scope.agent_cure, is_silent=scope.is_agent_silent)
    said, ask_it = scope.status, shlex.join(("nodeagent", "status", *(("--socket", scope.socket_path) if scope.socket_path else ())))
    return AgentState(ask_it=ask_it, version=said.version, problems=tuple(said.problems), warnings=tuple(said.warnings))


def config(scope: Scope) -> ConfigFile | None:
    """The configuration; before an installation there need be none."""
    if scope.is_config_closed:
        raise PermissionError(scope.config_error)
    if scope.is_pre and not scope.config_path.exists():
        return None
    return ConfigFile(str(scope.config_path), scope.config_error)


def programs(scope: Scope) -> Programs:
    """The interpreter, and what is imported; python-iptables is only looked for: it may end who imports it."""
    missing = [*filter(None, map(_complaint, _LIBRARIES))]
    if scope.config and scope.config.intercept.backend == "iptables" and importlib.util.find_spec("iptc") is None:
        missing.append('iptc, for backend = "iptables": pip install \'nodeagent[iptables]\'')
    return Programs(platform.python_version(), tuple(missing), _try_closed(Path(sys.executable), Path(nodeagent.__file__), Path(msgspec.__file__)))


def _try_closed(*files: Path) -> str:
    """The first of the files, or of the directories above them and above what they are links to, that lets only its owner in."""
    for path in (*files, *(each.resolve() for each in files)):
        for place in (*reversed(path.parents), path):
            wanted = stat.S_IXOTH if place.is_dir() else stat.S_IROTH
            if not place.stat().st_mode & wanted:
                return str(place)
    return ""


def start_link(scope: Scope, root: Path = _ROOT) -> StartLink | None:
    """Where the link leads by which the unit starts the agent; None: versions are not installed side by side here."""
    if scope.is_pre or not (root / "versions").is_dir():
        return None
    link = root / "current"
    return StartLink(
        str(link), link.readlink().name if link.is_symlink() else "", is_whole=(link / _PROGRAM).exists(),
        installed=tuple(sorted(path.name for path in (root / "versions").iterdir() if (path / _PROGRAM).exists())),
        running=scope.status.version if scope.status else "",
    )  # fmt: skip


def users(scope: Scope) -> str | None:
    """What is wrong with the agent's two users; an installation makes them."""
    if scope.is_pre:
        return None
    table = scope.settings.host
    try:
        control = resolve_user(table.control_user, "host.control_user")
        preflight.check_users(control, resolve_user(table.worker_user, "host.worker_user"))
    except ConfigError as error:
        return str(error)
    return ""


def files(scope: Scope) -> tuple[FileState, ...] | None:
    """What is read at start."""
    if scope.is_pre:
        return None
    settings, root = scope.settings, User(0, 0)
    control = resolve_user(settings.host.control_user, "host.control_user")
    wanted = [
        config_state(scope.config_path),
        *token_states(settings.catalog.token_file, control),
        file_state(OPERATOR_TOKEN, "the operator's token", root, is_secret=True, is_needed=False),
    ]
    if settings.catalog.ca_file:
        wanted.append(file_state(settings.catalog.ca_file, "the catalog's CA", control))
    if settings.catalog.cert_file:
        wanted.append(file_state(settings.catalog.cert_file, "the certificate for the catalog", control))
        wanted.append(file_state(settings.catalog.key_file, "the key for the catalog", control, is_secret=True))
    return tuple(wanted)


def token_states(path: str, control: User) -> tuple[FileState, ...]:
    """The token's file; none where the token is in the environment."""
    return () if path == FROM_ENVIRONMENT else (file_state(path, "the token", control, is_secret=True),)


def room(scope: Scope) -> Room | None:
    """The state directory."""
    if scope.is_pre:
        return None
    path = scope.settings.admin.state_dir
    try:
        status, disk = Path(path).stat(), os.statvfs(path)
    except FileNotFoundError:
        return Room(path, exists=False)
    is_open = status.st_gid == 0 and status.st_mode & stat.S_IRWXG == stat.S_IRWXG
    return Room(
        path, is_closed_to_root=scope.settings.identity.persist == "disk" and not is_open,
        is_read_only=bool(disk.f_flag & os.ST_RDONLY), owner_uid=status.st_uid,
        wanted_uid=resolve_user(scope.settings.host.control_user, "host.control_user").uid,
        free_bytes=disk.f_bavail * disk.f_frsize, free_inodes=disk.f_favail if disk.f_files else 1,
    )  # fmt: skip


def ports(scope: Scope) -> tuple[PortUse, ...] | None:
    """The agent's ports, and who holds them."""
    wanted = agent_ports(scope.config) if scope.config else (15001, 15006, 15008, 15020)
    ours, holders = _inodes_of(agent_pids(scope.status)), try_holders(wanted)
    return tuple(_port_use(port, holders[port], ours, silence=_silence(scope)) for port in wanted)


def memory(_scope: Scope) -> Memory:
    """Of the machine."""
    rows = dict(line.split(":", 1) for line in (_PROC / "meminfo").read_text(encoding="ascii").splitlines())
    return Memory(*(int(rows[key].split()[0]) * 1024 for key in ("MemAvailable", "MemTotal")))


def descriptors(scope: Scope) -> Descriptors:
    """Of the machine, and the least that a worker may open."""
    used, _, most = (_PROC / "sys/fs/file-nr").read_text(encoding="ascii").split()
    workers = [worker.pid for worker in scope.status.workers] if scope.status else []
    return Descriptors(int(used), int(most), min(map(open_files_limit, workers), default=0))


def agent_pids(status: Status | None) -> tuple[int, ...]:
    """Those of the agent's processes that hold listening sockets."""
    if status is None:
        return ()
    supervisor = (status.supervisor.pid,) if status.supervisor else ()
    return (*supervisor, status.control_pid, *(worker.pid for worker in status.workers))


def open_files_limit(pid: int) -> int:
    """The soft limit of a process; 0 where it has ended."""
    try:
        lines = (_PROC / str(pid) / "limits").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[3]) for line in lines if line.startswith("Max open files")), 0)


def file_state(path: str, what: str, reader: User, *, is_secret: bool = False, is_needed: bool = True) -> FileState:
    """What of a file decides who reads and who changes it."""
    name = _name_of(reader.uid)
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return FileState(path, what, None, is_secret=is_secret, is_needed=is_needed, reader=name)
    may_read = reader.uid == 0 or bool(
        status.st_mode & (0o400 if status.st_uid == reader.uid else 0o040 if status.st_gid == reader.gid else 0o004)
    )
    return FileState(
        path, what, status.st_mode & 0o7777, _name_of(status.st_uid), is_secret=is_secret, is_needed=is_needed,
        is_readable=may_read, is_foreign=status.st_uid not in (0, reader.uid), reader=name,
    )  # fmt: skip


def config_state(path: Path) -> FileState:
    """That of the directory on the way to it where the agent's root, which has no capability for that, cannot enter it."""
    closed, root = closed_to_root(path), User(0, 0)
    if closed is None:
        return file_state(str(path), "the configuration", root)
    what = "the configuration" if closed.place == path else "on the way to the configuration,"
    return dataclasses.replace(file_state(str(closed.place), what, root), is_readable=False, closed=closed.what, cure=closed.cure)


def _silence(scope: Scope) -> Silence:
    """What it means of an agent's process that it is not known as one of the agent's that answers."""
    if scope.is_elsewhere:
        return "unasked"
    return "settling" if scope.is_agent_settling or scope.status else "hang"  # who has answered was replaced since


def _port_use(port: int, pid: int, ours: frozenset[str], *, silence: Silence) -> PortUse:
    tables = [(_PROC / "net" / name) for name in ("tcp", "tcp6")]
    inodes = {inode for path in tables if path.exists() for inode in listening_inodes(path.read_text(encoding="ascii"), port)}
    if not inodes:
        return PortUse(port, "")
    return PortUse(
        port, describe_process(pid), is_ours=inodes <= ours, is_of_nodeagent=is_nodeagent(pid),
        is_kept=is_systemd(pid) or is_lab_store(pid), is_in_lab=is_lab_store(pid), is_unseen=not pid and os.geteuid() != 0, silence=silence,
    )  # fmt: skip


def _inodes_of(pids: tuple[int, ...]) -> frozenset[str]:
    """The sockets that these processes hold; root sees them."""
    links = [link for pid in pids for link in _descriptors_of(pid)]
    return frozenset(link[8:-1] for link in links if link.startswith("socket:["))


def _descriptors_of(pid: int) -> Iterator[str]:
    """What each open descriptor of a process is; those that close meanwhile are not."""
    with suppress(OSError):
        for entry in (_PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def _complaint(library: str) -> str:
    try:
        importlib.import_module(library)
    except Exception as error:  # noqa: BLE001 - a library without its shared object raises what it likes
        return f"{library} ({error})"
    return ""


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
