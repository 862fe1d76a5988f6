"""Who holds a TCP port that we want: for one sentence of an error message."""

from pathlib import Path

_LISTEN = "0A"


_PROC = Path("/proc")
_COMMAND = 4  # of its words, those that may name the program: `python -P -m nodeagent.control`


def describe_holder(port: int, proc: Path = _PROC) -> str:
    """`process 123 (envoy)`, or as much of it as this process may see."""
    pid = try_holder(port, proc)
    return f"process {pid} ({_read(proc / str(pid) / 'comm').strip()})" if pid else "another process"


def is_nodeagent(pid: int, proc: Path = _PROC) -> bool:
    """Whether a process is an agent's, by its command: the kernel's name for it is Python's."""
    words = _read(proc / str(pid) / "cmdline").split("\0")[:_COMMAND]
    return any(word.rpartition("/")[2].partition(".")[0] == "nodeagent" for word in words)


def is_systemd(pid: int, proc: Path = _PROC) -> bool:
    """Whether it is the one that keeps sockets for units."""
    return pid == 1 and _read(proc / "1" / "comm").strip() == "systemd"


def try_holder(port: int, proc: Path = _PROC) -> int:
    """The pid of a process that listens there; 0: none that can be seen. The first one only where it is alone: it keeps sockets for others."""
    inodes = {
        inode for name in ("tcp", "tcp6") for inode in listening_inodes(_read(proc / "net" / name), port) if inode != "0"
    }
    for pid in sorted((int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()), key=lambda pid: (pid == 1, pid)):
        if inodes & set(_socket_inodes(proc / str(pid) / "fd")):
            return pid
    return 0


def listening_inodes(table: str, port: int) -> tuple[str, ...]:
    """Inodes of the sockets that listen on `port`, from /proc/net/tcp or tcp6."""
    rows = (line.split() for line in table.splitlines()[1:])
    return tuple(
        row[9] for row in rows if len(row) > 9 and row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    )


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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
