"""Measures what following a catalog costs one agent: questions, bytes, CPU and the longest stall of its loop.

Usage: PYTHONPATH=. .venv/bin/python script/watching.py [SERVICES ...]   (by default 10, 1,000 and 10,000, of five instances each)

The catalog is a process of its own on loopback with answers as long as Consul's; each second one instance somewhere changes. Per size it
prints how long the first whole state took, and what a minute (WATCHING_S seconds) costs after that.
"""

import asyncio
import contextlib
import gzip
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aiohttp import web

from nodeagent.catalog.inventory import INVENTORY
from nodeagent.config import CatalogTable
from nodeagent.control.consul import Catalog
from nodeagent.control.environment import real_environment
from nodeagent.control.follow import Follower
from nodeagent.observe.metrics import Metrics
from tests.support.mesh import config

INSTANCES = 5
SETTLE_S = 5.0
STEP_S = 0.01
DEADLINE_S = 300.0


class _Made:
    """A catalog of so many services, ten on each host; encoded answers are kept."""

    def __init__(self, services: int) -> None:
        hosts = max(services * INSTANCES // 10, INSTANCES)
        self.index = 10
        self.hosts = [_node(number) for number in range(hosts)]
        self.rows: list[list[tuple[int, dict[str, Any]]]] = [
            [((service * INSTANCES + n) % hosts, _service(service)) for n in range(INSTANCES)] for service in range(services)
        ]
        self.changed_at: dict[str, int] = {}
        self.kept: dict[str, tuple[int, bytes]] = {}
        self.packed = -1, b""

    def health(self, name: str) -> list[dict[str, Any]]:
        rows = self.rows[int(name.removeprefix("service-"))] if name.startswith("service-") else []
        return [{"Node": self.hosts[host], "Service": service, "Checks": _checks(self.hosts[host], service)} for host, service in rows]

    def inventory(self) -> list[dict[str, Any]]:
        listed = [host | {"Services": [], "Checks": [_check(host, {})]} for host in self.hosts]
        for host, service in (each for rows in self.rows for each in rows):
            listed[host]["Services"].append(service)
            listed[host]["Checks"].append(_check(self.hosts[host], service))
        return listed

    def answer(self, path: str) -> bytes:
        at, body = self.kept.get(path, (-1, b""))
        if at < self.changed(path):
            body = json.dumps(self._said(path)).encode()
            self.kept[path] = self.changed(path), body
        return body

    def everything(self, path: str) -> bytes:
        """The same of all together, compressed."""
        if self.packed[0] < self.index:
            self.packed = self.index, gzip.compress(self.answer(path), 1)
        return self.packed[1]

    def changed(self, path: str) -> int:
        return self.index if path.startswith("/v1/internal/") else self.changed_at.get(path, 10)

    def change(self, turn: int) -> None:
        number = turn * 7919 % len(self.rows)
        self.index += 1
        host, service = self.rows[number][0]
        self.rows[number][0] = host, service | {"Meta": {"turn": str(turn)}, "ModifyIndex": self.index}
        self.changed_at[f"/v1/health/service/service-{number}"] = self.index

    def _said(self, path: str) -> object:
        if path.startswith("/v1/health/service/"):
            return self.health(path.rpartition("/")[2])
        said: dict[str, Callable[[], object]] = {
            "/v1/catalog/nodes": lambda: self.hosts,
            "/v1/catalog/services": lambda: {f"service-{number}": ["v1"] for number in range(len(self.rows))},
            INVENTORY: self.inventory,
            "/v1/config/service-intentions": lambda: [_intention(number) for number in range(min(len(self.rows), 20))],
            "/v1/config/service-defaults": list,
            "/v1/config/proxy-defaults": list,
            "/v1/agent/self": lambda: {"Config": {"NodeName": "host1", "Datacenter": "dc1"}},
        }
        return said[path]() if path in said else None


def _intention(number: int) -> dict[str, Any]:
    return {"Kind": "service-intentions", "Name": f"service-{number}", "Sources": [{"Name": "service-0", "Action": "allow"}]}


def _node(number: int) -> dict[str, Any]:
    ip = f"10.{80 + number // 65536}.{number // 256 % 256}.{number % 256}"
    return {
        "ID": f"00000000-0000-0000-0000-{number:012}", "Node": f"host{number + 1}", "Address": ip, "Datacenter": "dc1",
        "TaggedAddresses": {"lan": ip, "lan_ipv4": ip, "wan": ip, "wan_ipv4": ip},
        "Meta": {"consul-network-segment": "", "nodeagent": "15008;v1"}, "CreateIndex": 10, "ModifyIndex": 11,
    }  # fmt: skip


def _service(number: int) -> dict[str, Any]:
    return {
        "ID": f"service-{number}", "Service": f"service-{number}", "Tags": ["v1"], "Address": "", "Meta": {}, "Port": 1024 + number,
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": False,
        "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {}, "CreateIndex": 12, "ModifyIndex": 12,
    }  # fmt: skip


def _check(host: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    name = service.get("Service", "")
    return {
        "Node": host["Node"], "CheckID": f"service:{name}" if name else "serfHealth", "Name": "Serf Health Status", "Status": "passing",
        "Notes": "", "Output": "Agent alive and reachable", "ServiceID": name, "ServiceName": name, "ServiceTags": [], "Type": "",
        "Definition": {}, "CreateIndex": 10, "ModifyIndex": 10,
    }  # fmt: skip


def _checks(host: dict[str, Any], service: dict[str, Any]) -> list[dict[str, Any]]:
    return [_check(host, {}), _check(host, service)]


async def serve(services: int, pipe: Connection) -> None:
    """Answers for ever; at each word in the pipe says what was asked since the last."""
    made, counts, changed = _Made(services), Counter[str](), asyncio.Condition()

    async def handle(request: web.Request) -> web.Response:
        seen = int(request.query.get("index", "0"))
        with contextlib.suppress(TimeoutError):
            async with changed, asyncio.timeout(float(request.query.get("wait", "0s").rstrip("s"))):
                while seen and made.changed(request.path) <= seen:
                    await changed.wait()
        is_packed = "gzip" in request.headers.get("Accept-Encoding", "") and request.path == INVENTORY
        read = made.everything if is_packed else made.answer
        body = read(request.path) if request.method == "GET" else b"true"
        counts["questions"] += 1
        counts["bytes"] += len(body)
        counts["whole"] += request.path == INVENTORY
        headers = {"X-Consul-Index": str(made.changed(request.path))} | ({"Content-Encoding": "gzip"} if is_packed else {})
        return web.Response(body=body, status=404 if body == b"null" else 200, content_type="application/json", headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.everything(INVENTORY)
    pipe.send(runner.addresses[0][1])
    for turn in range(1_000_000):
        async with changed:
            changed.notify_all()
        await asyncio.sleep(1.0)
        made.change(turn)
        while pipe.poll():
            pipe.recv()
            pipe.send(Counter(counts))
            counts.clear()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Stalls:
    """The longest time that the loop was kept from a turn."""

    longest_s = 0.0

    async def watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(STEP_S)
            self.longest_s = max(self.longest_s, time.monotonic() - began - STEP_S)


async def measure(services: int, port: int, pipe: Connection) -> None:
    """Follows, and prints one line."""
    env = real_environment()
    async with Catalog(CatalogTable(f"http://127.0.0.1:{port}", token_file=""), env.now) as catalog:
        follower, stalls = Follower(config(), catalog, Metrics("1"), env), _Stalls()
        tasks = [asyncio.create_task(follower.run()), asyncio.create_task(stalls.watch())]
        began, cpu_s = time.monotonic(), _cpu_s()
        while not (state := follower.state()) or sum(map(len, state.instances.values())) < services * INSTANCES:
            assert time.monotonic() - began < DEADLINE_S
            await asyncio.sleep(0.1)
        first = f"whole after {time.monotonic() - began:.1f} s and {_cpu_s() - cpu_s:.1f} s of CPU, stall {1000 * stalls.longest_s:.0f} ms"
        await asyncio.sleep(SETTLE_S)
        pipe.send("")
        begun = await asyncio.to_thread(pipe.recv)
        cpu_s, stalls.longest_s, span_s = _cpu_s(), 0.0, float(os.environ.get("WATCHING_S", "60"))
        await asyncio.sleep(span_s)
        spent_s = _cpu_s() - cpu_s
        pipe.send("")
        counts = await asyncio.to_thread(pipe.recv)
        opened = await asyncio.to_thread(lambda: sum(1 for _ in Path("/proc/self/fd").iterdir()))
        for task in tasks:
            task.cancel()
    sys.stdout.write(
        f"{services} services: {first} ({begun['questions']} questions, {begun['whole']} of all, {begun['bytes'] / 1e6:.1f} MB);"
        f" then {counts['questions'] / span_s:.2f} questions/s, {counts['bytes'] / span_s / 1000:.1f} kB/s, CPU {100 * spent_s / span_s:.2f} %,"
        f" stall {1000 * stalls.longest_s:.0f} ms, {opened} descriptors, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB\n",
    )


def main() -> None:
    """Each size with processes of its own."""
    for services in [int(text) for text in sys.argv[1:]] or [10, 1000, 10_000]:
        ours, theirs = multiprocessing.Pipe()
        catalog = multiprocessing.Process(target=lambda n=services, end=theirs: asyncio.run(serve(n, end)), daemon=True)
        catalog.start()
        port = ours.recv()
        agent = multiprocessing.Process(target=lambda n=services, at=port, end=ours: asyncio.run(measure(n, at, end)))
        agent.start()
        agent.join()
        catalog.kill()


if __name__ == "__main__":
    main()
