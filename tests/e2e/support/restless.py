"""One process that goes from unit to unit: makes a unit's cgroup, enters it and calls, all within a millisecond.

A socket belongs for ever to the cgroup in which it was made. Runs inside a host; prints JSON: what each call was answered.
Usage: restless.py MOUNT ROOT, with JSON on standard input: rows of [cgroup below ROOT, address, port, line, how].
how: `ask` reads the answer after all calls were made; `leave` sends and closes at once; `again` first removes the old
cgroup, as a restart does, and reads the answer before it goes on.
"""

import errno
import json
import os
import socket
import sys
from pathlib import Path

DEADLINE_S = 20.0


def main(mount: Path, root: Path, orders: list[tuple[str, str, int, str, str]]) -> list[str]:
    """All calls, each made before any answer is read; then the answers, in the order of the calls."""
    home = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    calls = [_call(root / cgroup, address, port, line, how) for cgroup, address, port, line, how in orders]
    _enter(mount / home)
    return [_answer(call) if isinstance(call, socket.socket) else call for call in calls]


def _call(unit: Path, address: str, port: int, line: str, how: str) -> socket.socket | str:
    if how == "again":
        _enter(unit.parent)
        unit.rmdir()
    unit.mkdir(parents=True, exist_ok=True)
    _enter(unit)
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.settimeout(DEADLINE_S)
    try:
        sock.connect((address, port))
        sock.sendall(f"{line}\n".encode())
    except OSError as error:
        return _name(error)
    if how == "ask":
        return sock
    with sock:
        return _answer(sock) if how == "again" else "left"


def _answer(sock: socket.socket) -> str:
    try:
        return sock.makefile().readline().strip()
    except OSError as error:
        return _name(error)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def _enter(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1]), Path(sys.argv[2]), json.load(sys.stdin)), sys.stdout)
