"""A worker process: one uvloop, one snapshot, no privilege, no control-plane I/O."""

import asyncio
import gc
import socket
import sys
from dataclasses import dataclass
from typing import Any

import uvloop

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.proxy.plane import Plane

_OVERRUN = "incoming BIO: no writable capacity"
"""What aiofastnet says when it goes on reading from a peer whose TLS has ended: it has closed the connection by then."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """All that a worker is given when it is forked."""

    tag: str
    """No other worker of this host ever has it: what ids of connections begin with."""
    config: Config
    supervisor: socket.socket
    """SEQPACKET, `wire.requests`."""
    control: socket.socket
    """STREAM, `wire.frames`."""


def run_worker(setup: WorkerSetup) -> None:
    """Serves until it is told to drain and the last connection has ended."""
    gc.freeze()  # what was imported before the fork stays shared with the other workers
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(setup))


async def _serve(setup: WorkerSetup) -> None:
    asyncio.get_running_loop().set_exception_handler(_complain)
    plane = Plane(setup.tag, setup.config, setup.supervisor, setup.control)
    log = asyncio.create_task(_write_log())
    await plane.serve()
    log.cancel()


async def _write_log() -> None:
    """What standard error could not take before, for ever."""
    while True:
        await asyncio.sleep(limits.STATS_S)
        sys.stderr.flush()


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no one awaited: peers that vanish in a handshake or talk on after their end are daily life, all else is printed."""
    error = context.get("exception")
    kind = error if isinstance(error, type) else type(error)
    vanished = issubclass(kind, (ConnectionError, TimeoutError))
    if not vanished and str(error) != _OVERRUN:
        loop.default_exception_handler(context)
