"""Measures how soon an agent knows what changed while it could not reach its catalog.

Usage: PYTHONPATH=. .venv/bin/python script/outage.py [embedded|consul] [SERVICES] [INSTANCES]   (by default embedded, 1000, 10)

A relay on loopback stands between an agent's control and a real catalog; Consul is 1.8.7, in dev mode. OUTAGES times it is closed for some
seconds, in which every instance gets another port, and opened again. Printed is the time from then on: to the first answer that the agent
gets, and to the last instance that it knows; and how many connections there were.
"""

import asyncio
import contextlib
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.follow import Follower
from nodeagent.embedded.database import Change, commit, open_database
from nodeagent.embedded.datadir import DATABASE
from nodeagent.embedded.registration import NodeRow, ServiceRow
from nodeagent.embedded.registrations import put_node, put_service
from nodeagent.observe.metrics import Metrics
from tests.e2e.catalog_process import Process
from tests.e2e.support.consul import Consul
from tests.support.mesh import config

OUTAGES = 8
OUTAGE_S = 8.0  # and a second more each time: the agent's pauses between its attempts are not to be in step with it
AT_ONCE = 64  # operations in one transaction of Consul's
STEP_S = 0.01

Fill = Callable[[int], None]
"""Registers all services, with instances at this port."""


class Relay:
    """Between the agent and its catalog; who is connected when it closes is cut off."""

    def __init__(self, to: str) -> None:
        self._to = to.rpartition(":")[0], int(to.rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0
        """Since it was opened."""

    async def open(self) -> None:
        """Listens, again at the same port."""
        self.connections = 0
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Cuts everybody off."""
        assert self._server
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._to)
            both = {writer, far_writer}
            self._ends |= both
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
            self._ends -= both


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while some := await reader.read(1 << 18):
            writer.write(some)
            await writer.drain()
    writer.close()


def _places(services: int, instances: int) -> Iterator[tuple[str, str]]:
    """Host and service of each instance, ten on each host."""
    for number in range(services * instances):
        yield f"host{number % max(services * instances // 10, instances)}", f"service-{number // instances}"


def _ip(host: str) -> str:
    number = int(host.removeprefix("host"))
    return f"10.{80 + number // 65536}.{number // 256 % 256}.{number % 256}"


@contextlib.contextmanager
def embedded(directory: Path, places: list[tuple[str, str]]) -> Iterator[tuple[CatalogTable, str, Fill]]:
    """Filled beside the server: over HTTP it would be as many changes, each with its fsync."""
    data = directory / "data"
    with Process(data) as process:
        connection = open_database(data / DATABASE)

        def fill(port: int) -> None:
            def make(change: Change) -> None:
                for host in sorted({host for host, _ in places}):
                    put_node(change, NodeRow(host, "", _ip(host), {}, {"nodeagent": "15008;v1"}))
                for host, service in places:
                    put_service(change, ServiceRow(host, service, service, port))

            commit(connection, make)

        client = process.client()
        yield CatalogTable("https://", str(data / "management.token"), ca_file=str(data / "tls-ca.pem")), client.address, fill


@contextlib.contextmanager
def consul(directory: Path, places: list[tuple[str, str]]) -> Iterator[tuple[CatalogTable, str, Fill]]:
    """Filled by transactions."""
    with Consul(directory, limits={"http_max_conns_per_client": 400}) as running:

        def fill(port: int) -> None:
            made: list[dict[str, Any]] = [
                {"Node": {"Verb": "set", "Node": {"Node": host, "Address": _ip(host), "Meta": {"nodeagent": "15008;v1"}}}}
                for host in sorted({host for host, _ in places})
            ]
            made += [
                {"Service": {"Verb": "set", "Node": host, "Service": {"ID": service, "Service": service, "Port": port}}}
                for host, service in places
            ]
            with contextlib.closing(http.client.HTTPConnection(running.address)) as connection:
                for at in range(0, len(made), AT_ONCE):
                    connection.request("PUT", "/v1/txn", json.dumps(made[at : at + AT_ONCE]))
                    answer = connection.getresponse()
                    assert answer.status == 200, answer.read()
                    answer.read()

        yield CatalogTable("http://", ""), running.address, fill


async def measure(table: CatalogTable, address: str, fill: Fill, count: int) -> None:
    """Prints one line for each outage."""
    env, relay = real_environment(), Relay(address)
    await relay.open()
    table = CatalogTable(f"{table.address}127.0.0.1:{relay.port}", table.token_file, ca_file=table.ca_file)
    async with Catalog(table, env.now) as catalog:
        follower = Follower(config(), catalog, Metrics("1"), env)

        async def until_at(port: int) -> None:
            known = follower.seen.instances
            await _until(lambda: len(known) >= count and all(_is_at(rows, port) for rows in known.values()))

        task = asyncio.create_task(follower.run())
        await until_at(1000)
        for number in range(OUTAGES):
            await asyncio.sleep(2.0)
            relay.close()
            began = time.monotonic()
            await asyncio.to_thread(fill, 1001 + number)
            await asyncio.sleep(OUTAGE_S + number - (time.monotonic() - began))
            await relay.open()
            back_at, back = time.monotonic(), env.now()
            await _until(lambda: catalog.answered_at >= back)  # noqa: B023 - awaited here
            first_s = time.monotonic() - back_at
            await until_at(1001 + number)
            took_s = time.monotonic() - back_at
            sys.stdout.write(f"first answer after {first_s:.2f} s, all {took_s - first_s:.2f} s later ({relay.connections} connections)\n")
            sys.stdout.flush()
        task.cancel()
    relay.close()


async def _until(fact: Callable[[], bool]) -> None:
    while not fact():  # noqa: ASYNC110 - nothing tells of it, and nothing but the clock is to be disturbed
        await asyncio.sleep(STEP_S)


def _is_at(rows: tuple[Any, ...], port: int) -> bool:
    return all(address.port == port for row in rows for address in row.instance.addresses)


def main() -> None:
    """One catalog."""
    kind, services, instances = (*sys.argv[1:], *("embedded", "1000", "10")[len(sys.argv) - 1 :])
    places = list(_places(int(services), int(instances)))
    with tempfile.TemporaryDirectory() as directory, {"embedded": embedded, "consul": consul}[kind](Path(directory), places) as opened:
        opened[2](1000)
        asyncio.run(measure(*opened, int(services)))


if __name__ == "__main__":
    main()
