"""What a process holds, as the kernel counts it: to be the same after an attack as before."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTEN, _ACCEPTS = "0A", "00010000"  # Linux: TCP_LISTEN, __SO_ACCEPTCON
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def descriptors(pid: int) -> list[str]:
    """What its descriptors are, sorted. TCP sockets that are neither connected nor listening are left out.

    A worker keeps some of those for calls to come, and gets more when it has used them.
    """
    tables = {inode for table in ("tcp", "tcp6", "unix") for inode in _inodes(Path(f"/proc/{pid}/net/{table}"))}
    return sorted(link for link in _links(pid) if not (found := _SOCKET.fullmatch(link)) or found[1] in tables)


def accepted_from(pid: int) -> set[int]:
    """Ports of the far ends of the TCP connections in its network that have been accepted, or were never to be."""
    lines = (line for table in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:])
    return {int(fields[2].rpartition(":")[2], 16) for line in lines if (fields := line.split())[9] != "0"}


def callers(pid: int, *, port: int, path: str) -> int:
    """How many connections it holds that came to a TCP port or to a Unix socket of its own."""
    tables = Path(f"/proc/{pid}/net")
    tcp = {
        fields[9] for table in ("tcp", "tcp6") for line in (tables / table).read_text().splitlines()[1:]
        if (fields := line.split())[1].endswith(f":{port:04X}") and fields[3] != _LISTEN
    }  # fmt: skip
    unix = {
        fields[6] for line in (tables / "unix").read_text().splitlines()[1:]
        if (fields := line.split())[-1] == path and fields[3] != _ACCEPTS
    }  # fmt: skip
    return sum((found := _SOCKET.fullmatch(link)) is not None and found[1] in tcp | unix for link in _links(pid))


def _links(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            yield str(entry.readlink())


def _inodes(table: Path) -> set[str]:
    """The ninth field of a line about TCP, the seventh of one about Unix sockets. Source: proc_net_tcp, unix(7)."""
    column = 6 if table.name == "unix" else 9
    return {fields[column] for line in table.read_text().splitlines()[1:] if len(fields := line.split()) > column}
