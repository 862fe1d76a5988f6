"""Clients that notice everything while the agents around them are replaced, and what the agents say of it."""

import http.client
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.callers import call, say
from tests.e2e.support.unit import DEADLINE_S, Unit
from tests.e2e.support.waiting import wait_until

_HTTP = [sys.executable, "-m", "http.server", "--bind", "::", "--protocol", "HTTP/1.1", "--directory", "/usr/share/doc"]


class Steady:
    """Does one thing again and again in a thread of its own; remembers how often, and each answer that was not the right one."""

    def __init__(self, act: Callable[[int], str], right: Callable[[int], str]) -> None:
        self.done = 0
        self.wrong: list[str] = []
        self._act, self._right = act, right
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * DEADLINE_S)

    def go_on(self, times: int = 20) -> None:
        """Returns after some more."""
        goal = self.done + times
        wait_until(lambda: self.done >= goal or not self._thread.is_alive(), "the client goes on")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._act(self.done)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shall see it
                answer = repr(error)
            if answer != self._right(self.done):
                self.wrong.append(f"{self.done}: {answer}")
            self.done += 1


@contextmanager
def new_connections(lab: Lab, host: str, service: str, address: str, port: int) -> Iterator[Steady]:
    """A connection for each line, all the time."""
    with Unit(lab, host, service) as unit:
        steady = Steady(lambda n: call(unit, address, port, f"new {n}"), lambda n: f"app:new {n}")
        with steady:
            yield steady


@contextmanager
def one_connection(lab: Lab, host: str, service: str, address: str, port: int) -> Iterator[Steady]:
    """Every line on the same connection."""
    with Unit(lab, host, service) as unit:
        sock = unit.connect(address, port)
        with Steady(lambda n: say(sock, f"old {n}"), lambda n: f"app:old {n}") as steady:
            yield steady


@contextmanager
def keep_alive(lab: Lab, host: str, service: str, address: str, port: int) -> Iterator[Steady]:
    """HTTP requests on one connection, which is never made anew."""
    with Unit(lab, host, service) as unit:
        client = http.client.HTTPConnection(address, port)
        client.auto_open = 0
        client.sock = unit.connect(address, port)

        def get(_number: int) -> str:
            client.request("GET", "/")
            answer = client.getresponse()
            answer.read()
            return str(answer.status)

        with Steady(get, lambda _: "200") as steady:
            yield steady
        client.close()


def serve_http(lab: Lab, host: str, service: str, port: int) -> None:
    """A server that keeps connections open."""
    lab.run(host, service, [*_HTTP, str(port)], port=port)


def generations(lab: Lab, host: str) -> list[dict[str, Any]]:
    """Of `nodeagent status`, the youngest first."""
    parts: list[dict[str, Any]] = look.status(lab, host)["generations"]
    return parts


def supervisor(lab: Lab, host: str) -> int:
    """Its pid, as control knows it."""
    pid: int = look.status(lab, host)["supervisor"]["pid"]
    return pid
