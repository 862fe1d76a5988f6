"""Control in this process, between a scripted catalog and far ends played by the test."""

import asyncio
import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any, Self

from msgspec.structs import replace

from nodeagent.config import Config
from nodeagent.control.agent import run_control
from tests.support.far_ends import FarEnd, hand_over, supervisor_stats, worker
from tests.support.loop import until
from tests.support.mesh import config
from tests.support.scripted_catalog import NODES, ScriptedCatalog, instance, node

HOST1 = node("host1", "10.77.0.1", "fd77::1")
HOST2 = node("host2", "10.77.0.2", "fd77::2")


def settings(directory: Any, address: str, extra: str = "", metrics: str = "") -> Config:
    """host1's configuration with everything below `directory`."""
    made = config(
        f'[admin]\nsocket = "{directory}/api.sock"\nstate_dir = "{directory}"\nmetrics = "{metrics}"\n{extra}'
    )
    return replace(made, catalog=replace(made.catalog, address=address, token_file=""))


class ControlScene:
    """Use with `async with`: control runs, a supervisor and one worker are connected."""

    def __init__(
        self, directory: Any, extra: str = "", metrics: str = "", peer: ScriptedCatalog | None = None, rows: list | None = None,
        *, is_heard: bool = True,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.socket = f"{directory}/api.sock"
        self.peer = peer or ScriptedCatalog()
        self._extra = extra
        self._rows = rows
        self._is_heard = is_heard
        self._metrics = metrics
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.peer)
        self.peer.set(NODES, [HOST1, HOST2])
        self.peer.register("web", instance(HOST2, "web", 80))
        self.peer.register("shop", instance(HOST1, "shop", 9000))
        self.supervisor = self._stack.enter_context(FarEnd())
        self.worker = self._stack.enter_context(worker(self._rows))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.handover = ours
        self._stack.callback(ours.close)
        self._stack.callback(theirs.close)
        made = settings(self.directory, self.peer.address, self._extra, self._metrics)
        self.task = asyncio.create_task(run_control(made, theirs, self.supervisor.given_away.dup()))
        hand_over(ours, 0, 4001, self.worker)
        if self._is_heard:
            self.supervisor.send(supervisor_stats())
        await until(lambda: Path(self.socket).exists(), "the admin socket")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.supervisor.sock.shutdown(socket.SHUT_RDWR)  # the supervisor is gone: control ends
        async with asyncio.timeout(20):
            await self.task
        await self._stack.aclose()

    async def get(self, path: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
        """Status and body of an answer of the admin API; `body` goes as JSON."""
        return await asyncio.to_thread(get, self.socket, path, method, body)


def get(socket_path: str, path: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
    """Status and decoded body, over the Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    try:
        connection.sock.connect(socket_path)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    return response.status, json.loads(data) if is_json else data
