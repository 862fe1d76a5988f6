"""Callers that never stop calling, whatever becomes of the agents, and how long each of them has waited."""

import itertools
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from tests.e2e.support.callers import call_with
from tests.e2e.support.unit import Unit

_EVERY_S, _PATIENCE_S = 0.2, 60.0
_AT_ONCE = 400
_lines = itertools.count(1)


class Place(NamedTuple):
    """Who calls what."""

    unit: Unit
    address: str
    port: int


class Met(NamedTuple):
    """What became of a call."""

    address: str
    answer: str
    """`app`, or what came instead."""
    waited_s: float


class RestlessCallers:
    """Each place is called all the time; nobody waits for an answer before the next call. Until the `with` block ends."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._pool = ThreadPoolExecutor(_AT_ONCE)
        self._calls: list[Future[Met]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def met(self) -> list[Met]:
        """What all have met; when the block has ended."""
        found = [call.result() for call in self._calls]
        self._pool.shutdown()
        return found

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            for unit, address, port in self._places:
                (sock,) = unit.sockets(1, 6 if ":" in address else 4)
                self._calls.append(self._pool.submit(_call, sock, address, port))


def _call(sock: socket.socket, address: str, port: int) -> Met:
    began = time.monotonic()
    with sock:
        sock.settimeout(_PATIENCE_S)
        answer = call_with(sock, address, port, f"line-{next(_lines)}")
        return Met(address, answer.partition(":")[0], time.monotonic() - began)
