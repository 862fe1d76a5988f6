"""Who holds a TCP port that we want: for one sentence of an error message."""

from collections.abc import Mapping, Sequence
from pathlib import Path

_LISTEN = "0A"


_PROC = Path("/proc")
_COMMAND = 4  # of its words, those that may name the program: `python -P -m nodeagent.control`
_LAB_STORE = "nodeagent.lab.fd_store"


def describe_holder(port: int, proc: Path = _PROC) -> str:
    """`process 123 (envoy)`, or as much of it as this process may see."""
    return describe_process(try_holder(port, proc), proc)


def describe_process(pid: int, proc: Path = _PROC) -> str:
    """As `describe_holder`; pid: 0 where none can be seen."""
    return f"process {pid} ({_read(proc / str(pid) / 'comm').strip()})" if pid else "another process"


def is_nodeagent(pid: int, proc: Path = _PROC) -> bool:
    """Whether a process is an agent's, by its command: the kernel's name for it is Python's."""
    is_agents = any(word.rpartition("/")[2].partition(".")[0] == "nodeagent" for word in _command(pid, proc))
    return is_agents and not is_lab_store(pid, proc)


def is_systemd(pid: int, proc: Path = _PROC) -> bool:
    """Whether it is the one that keeps sockets for units."""
    return pid == 1 and _read(proc / "1" / "comm").strip() == "systemd"


def is_lab_store(pid: int, proc: Path = _PROC) -> bool:
    """Whether it is what keeps sockets for an agent of a lab, as systemd does elsewhere."""
    return _LAB_STORE in _command(pid, proc)


def try_holder(port: int, proc: Path = _PROC) -> int:
    """The pid of a process that listens there; 0: none that can be seen. One that keeps sockets for others only where it is alone."""
    return try_holders((port,), proc)[port]


def try_holders(ports: Sequence[int], proc: Path = _PROC) -> Mapping[int, int]:
    """As `try_holder`, of several ports by one look at all processes."""
    wanted = {port: _listeners(port, proc) for port in ports}
    found, kept = dict.fromkeys(ports, 0), dict.fromkeys(ports, 0)
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()):
        open_ = set(_socket_inodes(proc / str(pid) / "fd"))
        if held := [port for port in ports if not found[port] and wanted[port] & open_]:
            into = kept if pid == 1 or is_lab_store(pid, proc) else found
            into.update({port: into[port] or pid for port in held})
    return {port: found[port] or kept[port] for port in ports}


def listening_inodes(table: str, port: int) -> tuple[str, ...]:
    """Inodes of the sockets that listen on `port`, from /proc/net/tcp or tcp6."""
    rows = (line.split() for line in table.splitlines()[1:])
    return tuple(
        row[9] for row in rows if len(row) > 9 and row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    )


def _listeners(port: int, proc: Path) -> set[str]:
    return {inode for name in ("tcp", "tcp6") for inode in listening_inodes(_read(proc / "net" / name), port) if inode != "0"}


def _socket_inodes(directory: Path) -> list[str]:
    """Inodes of a process's sockets; none where we may not look."""
    found: list[str] = []
    try:
        for entry in directory.iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                found.append(target[8:-1])
    except OSError:
        return found
    return found


def _command(pid: int, proc: Path) -> list[str]:
    return _read(proc / str(pid) / "cmdline").split("\0")[:_COMMAND]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
