"""A worker process: one uvloop, one snapshot, no privilege, no control-plane I/O."""

import socket
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nodeagent.config import Config


class Listener(NamedTuple):
    """A listening socket made by the supervisor for this worker alone."""

    kind: Literal["outbound", "inbound", "tunnel"]
    family: Literal[4, 6]
    sock: socket.socket


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """All that a worker is given when it is forked."""

    number: int
    config: Config
    supervisor: socket.socket
    """SEQPACKET, `wire.requests`."""
    control: socket.socket
    """STREAM, `wire.frames`."""
    listeners: tuple[Listener, ...]


def run_worker(setup: WorkerSetup) -> None:
    """Serves until it is told to drain and the last connection has ended."""
    raise SystemExit(f"worker {setup.number}: no data plane yet")
