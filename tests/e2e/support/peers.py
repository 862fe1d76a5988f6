"""Two programs that speak TCP across a lab, one on each host, told step by step what to do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from nodeagent.lab.lab import Lab

PROGRAM = Path(__file__).with_name("peer.py")


class Peer:
    """A running peer.py. What it gives is compared, so that a test reads as what both sides saw."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert self._answer() == "ready"

    def begin(self, operation: str, *arguments: Any) -> Callable[[], Any]:
        """Starts an operation; the result when it is called. Results come in the order of the operations."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([operation, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer

    def do(self, operation: str, *arguments: Any) -> Any:
        """What an operation of peer.py gives."""
        return self.begin(operation, *arguments)()

    def is_reset(self, ip: str, port: int) -> bool:
        """Whether a call from here ends in a reset, which is met in connect() already where the agent is faster."""
        answer = self.do("connect", "reset", ip, port)
        return answer == "ECONNRESET" or (answer == "connected" and self.do("recv", "reset", 1) == "<ECONNRESET>")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=20)

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the peer has ended; its error is above"
        return json.loads(line)


class Pair(NamedTuple):
    """A caller on host1, a listener on host2, and where it listens."""

    client: Peer
    server: Peer
    ip: str
    port: int

    def open(self, name: str = "a") -> str:
        """A connection with that name at both ends; the caller's address as the listener sees it."""
        assert self.client.do("connect", name, self.ip, self.port) == "connected"
        return str(self.server.do("accept", name))


def start_peer(lab: Lab, host: str, service: str, *arguments: str) -> Peer:
    """peer.py as a process of that service."""
    command = [sys.executable, str(PROGRAM), *arguments]
    return Peer(lab.popen(host, command, service=service, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
