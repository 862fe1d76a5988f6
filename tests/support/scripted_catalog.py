"""A catalog that says what a test wants, on loopback: blocking queries included, misbehaviour on demand."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from aiohttp import web

from certs.csr import requested_id
from certs.local_ca import LocalCa
from certs.svid import load_chain, serial_text

DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
NODES = "/v1/catalog/nodes"
SERVICES = "/v1/catalog/services"
INTENTIONS = "/v1/config/service-intentions"
ROOTS = "/v1/connect/ca/roots"
SELF = "/v1/agent/self"
INVENTORY = "/v1/internal/ui/nodes"
LOCAL = "/v1/agent/services"
NODE = "/v1/catalog/node/"
AUTHORIZE = "/v1/internal/acl/authorize"
KEPT = "/v1/kv/nodeagent/config/service-intentions/"

LISTED = ("service-router", "service-splitter", "service-resolver", "mesh")

Handler = Callable[[web.Request], web.StreamResponse | None]


class ScriptedCatalog:
    """Use with `async with`. `set` changes a value; `scripts[path]` takes over a path, and may return None to pass.

    It is an embedded one, unless a test says otherwise at SELF.
    """

    def __init__(self, svid_life: timedelta = timedelta(hours=1)) -> None:
        self.ca = LocalCa.create(DOMAIN, datetime.now(UTC))
        self.index = 10
        self.values: dict[str, tuple[int, Any]] = {}
        self.scripts: dict[str, Handler] = {}
        self.marks: dict[str, str] = {}
        """Headers of every answer beside the index."""
        self.asked: list[tuple[str, str, str]] = []
        """(method, path, index) of each request."""
        self.written: list[tuple[str, Any]] = []
        self.svid_life = svid_life
        self.has_inventory = False
        """Whether it gives all services in one answer."""
        self.authorize: Callable[[Any], web.StreamResponse] | None = None
        """Answers what a token may do; None: that is not served."""
        self._changed = asyncio.Event()
        for path, value in {
            NODES: [], SERVICES: {}, INTENTIONS: [], "/v1/config/service-defaults": [],
            "/v1/config/proxy-defaults": [], **{f"/v1/config/{kind}": [] for kind in LISTED}, KEPT: None, LOCAL: {}, ROOTS: self.roots(), SELF: {"Config": {"NodeName": "", "Datacenter": "dc1"}},
        }.items():  # fmt: skip
            self.values[path] = self.index, value

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await self.open(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def open(self, port: int) -> None:
        """Listens (again)."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def roots(self) -> dict[str, Any]:
        root = {"ID": "r1", "RootCert": self.ca.cert_pem, "Active": True}
        return {"ActiveRootID": "r1", "TrustDomain": DOMAIN, "Roots": [root]}

    def set(self, path: str, value: Any) -> None:
        """Changes what is said at `path`; who waits there is answered."""
        self.index += 1
        self.values[path] = self.index, value
        self._changed.set()
        self._changed = asyncio.Event()

    def register(self, service: str, *instances: dict[str, Any]) -> None:
        """Makes `instances` all there are of a service."""
        self.set(f"/v1/health/service/{service}", list(instances))
        self.set(SERVICES, {**self.values[SERVICES][1], service: []})

    def allow(self, *pairs: str) -> None:
        """Makes the intentions these: `shop -> web`."""
        entries = {}
        for pair in pairs:
            source, _, destination = pair.split()
            entry = entries.setdefault(destination, {"Kind": "service-intentions", "Name": destination, "Sources": []})
            entry["Sources"].append({"Name": source, "Action": "allow"})
        self.set(INTENTIONS, list(entries.values()))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.query.get("index", "")))
        script = self.scripts.get(request.path)
        answer = script(request) if script else None
        if answer is not None:
            return answer
        if request.path == AUTHORIZE and self.authorize:
            return self.authorize(json.loads(await request.text()))
        if request.method == "PUT":
            return self._write(request.path, json.loads(await request.text()))
        return await self._read(request)

    def _write(self, path: str, body: Any) -> web.Response:
        self.written.append((path, body))
        if path == "/v1/nodeagent/sign":
            return self._sign(body["CSR"])
        if path == "/v1/catalog/register":
            rows = [row for row in self.values[NODES][1] if row["Node"] != body["Node"]]
            self.set(NODES, [*rows, {**body, "Meta": body["NodeMeta"]}])
        return web.json_response(True)

    def _sign(self, csr_pem: str) -> web.Response:
        spiffe_id = requested_id(csr_pem)
        assert spiffe_id is not None
        chain = self.ca.sign(csr_pem, spiffe_id, self.svid_life, datetime.now(UTC))
        serial = serial_text(load_chain(chain)[0].serial_number)
        return web.json_response({"CertPEM": chain, "SerialNumber": serial, "Service": "x"})

    async def _read(self, request: web.Request) -> web.Response:
        asked = int(request.query.get("index", "0"))
        wait_s = float(request.query.get("wait", "0s").rstrip("s") or 0)
        end = asyncio.get_running_loop().time() + wait_s
        while True:
            index, value = self._value(request.path)
            left = end - asyncio.get_running_loop().time()
            if asked < index or left <= 0:
                if value is None:
                    marks = {"X-Consul-Index": str(index)} if request.path.startswith("/v1/kv/") else {}
                    return web.Response(status=404, text="not here", headers=marks)
                return web.json_response(value, headers={"X-Consul-Index": str(index), **self.marks})
            changed = self._changed
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                continue


    def _value(self, path: str) -> tuple[int, Any]:
        if path == INVENTORY and self.has_inventory and path not in self.values:
            return self.index, self._inventory()
        if path.startswith(NODE) and path not in self.values:
            return self.index, self._registered(path.removeprefix(NODE))
        return self.values.get(path, (self.index, [] if "/health/" in path else None))

    def _registered(self, host: str) -> dict[str, Any]:
        """What health answers show of a host."""
        listed = [row for row in self._inventory() if row["Node"] == host]
        return {"Node": {"Node": host}, "Services": {each["ID"]: each for row in listed for each in row["Services"]}}

    def _inventory(self) -> list[dict[str, Any]]:
        """All health answers as one."""
        found: dict[str, dict[str, Any]] = {}
        for row in (row for path, (_, rows) in self.values.items() if path.startswith("/v1/health/service/") for row in rows):
            listed = found.setdefault(row["Node"]["Node"], {**row["Node"], "Services": [], "Checks": []})
            listed["Services"].append(row["Service"])
            listed["Checks"] += row["Checks"]
        return list(found.values())


def node(name: str, *addresses: str, marker: str = "15008;v1") -> dict[str, Any]:
    """A row of /v1/catalog/nodes."""
    tagged = {"lan_ipv6" if ":" in ip else "lan_ipv4": ip for ip in addresses}
    return {"Node": name, "Address": addresses[0], "TaggedAddresses": tagged, "Meta": {"nodeagent": marker}}


def instance(host: dict[str, Any], service: str, port: int, id_: str = "") -> dict[str, Any]:
    """A row of /v1/health/service/NAME."""
    made = {"ID": id_ or f"{service}-{host['Node']}", "Service": service, "Address": "", "Port": port}
    return {"Node": host, "Service": made, "Checks": []}
