"""Callers of an App: units of all kinds on a lab's host, and what became of their calls."""

import json
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from nodeagent.lab import cgroup
from nodeagent.lab.lab import Lab
from tests.e2e.support.unit import DEADLINE_S, Unit
from tests.support.eventually import eventually

_RESTLESS = Path(__file__).with_name("restless.py")
_MARKED = re.compile(r'"[^"]*?([^"/]+)\.service" : (0x[0-9a-f]+)')

Order = tuple[str, str, int, str, str]
"""cgroup below the host's root, address, port, line, how: see restless.py."""


def call_from(lab: Lab, host: str, orders: Sequence[Order]) -> list[str]:
    """The answers, or the names of the errors, of calls that are made one right after the other, each from its cgroup."""
    mount = cgroup.mount()
    root = mount / lab.host(host).cgroup
    done = lab.exec(host, sys.executable, "-IS", str(_RESTLESS), str(mount), str(root), input=json.dumps(orders))
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers


def say(sock: socket.socket, line: str) -> str:
    """The App's answer to a line, or what happened instead: `reset`, `closed`, `silent`."""
    try:
        sock.sendall(f"{line}\n".encode())
        return heard(sock)
    except ConnectionError:
        return "reset"


def heard(sock: socket.socket) -> str:
    """The next line, or what came instead."""
    text = b""
    try:
        while not text.endswith(b"\n"):
            part = sock.recv(4096)
            if not part:
                return "closed"
            text += part
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "silent"
    return text.decode().strip()


def call(unit: Unit, address: str, port: int, line: str, *, mark: int = 0) -> str:
    """As `say`, on a new connection; `refused`, or the error, if there is none. mark: what the caller forges."""
    (sock,) = unit.sockets(1, 6 if ":" in address else 4)
    with sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        return call_with(sock, address, port, line)


def call_with(sock: socket.socket, address: str, port: int, line: str) -> str:
    """As `call`, on a socket that is there already and stays open."""
    try:
        sock.connect((address, port))
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return str(error)
    return say(sock, line)


def place_of(lab: Lab, host: str, path: str) -> Path:
    """The directory of a cgroup below the host's root."""
    return cgroup.mount() / lab.host(host).cgroup / path


def move(unit: Unit, lab: Lab, host: str, path: str) -> None:
    """Takes the unit's process to another cgroup below the host's root, which is made: its next sockets are from there."""
    unit.sockets(1)  # it has entered its own cgroup by then, and does not go back there
    place = place_of(lab, host, path)
    place.mkdir(parents=True, exist_ok=True)
    (place / "cgroup.procs").write_text(str(unit._maker.pid))


def orphan(unit: Unit, lab: Lab, host: str, name: str) -> socket.socket:
    """A socket that was made in NAME.service, whose cgroup is gone by now, also from the kernel's map."""
    path = f"system.slice/{name}.service"
    move(unit, lab, host, path)
    eventually(lambda: name in marks_in_kernel(lab, host), DEADLINE_S, f"{name} is stamped")
    (sock,) = unit.sockets(1)
    move(unit, lab, host, "user.slice/user-0.slice/session-1.scope")
    place_of(lab, host, path).rmdir()
    eventually(lambda: name not in marks_in_kernel(lab, host), DEADLINE_S, f"{name} is stamped no more")
    return sock


def marks_in_kernel(lab: Lab, host: str) -> dict[str, int]:
    """Unit name without `.service` -> the mark that the kernel stamps on its connections, as nft lists the map."""
    listed = lab.exec(host, "nft", "list", "map", "inet", "nodeagent", "units")
    assert listed.returncode == 0, listed.stderr
    return {name: int(mark, 16) for name, mark in _MARKED.findall(listed.stdout)}
