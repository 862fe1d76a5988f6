"""CPython's own network tests as workloads of a lab: where they run, and how each of their tests ended.

Client and server of these tests are in one process of `shop` on host1. The server listens on host1 itself (way `local`) or, by
the means of suite.py, on host2 (way `tunnel`). It does so at ports of the kernel's choice, so the kernel may choose among a
few hundred only, and each of these is registered as an instance of `suite`.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nodeagent.control.report import ConnectionsAnswer, ServicesAnswer
from nodeagent.lab import catalog
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import Host
from tests.e2e.support.waiting import wait_until

SERVICE = "suite"
FIRST_PORT, PORTS = 40_000, 500
SERVER_HOST = {"tunnel": "host2", "local": "host1"}
_PROGRAM = Path(__file__).with_name("suite.py")
_PYTHON = "/usr/bin/python3"  # the distribution's, which brings these tests
_SETTINGS = (
    f"net.ipv4.ip_local_port_range={FIRST_PORT} {FIRST_PORT + PORTS - 1}",
    "net.ipv4.ip_nonlocal_bind=1",  # the tests bind here before their sockets are moved there
    "net.ipv6.ip_nonlocal_bind=1",
)


class Outcomes(msgspec.Struct):
    """What suite.py writes."""

    outcomes: dict[str, str]
    words: dict[str, str]


class Run(NamedTuple):
    """A run of some modules that goes on."""

    process: "subprocess.Popen[str]"
    result: Path

    def outcomes(self, timeout_s: float) -> Outcomes:
        """How each test ended, when all have."""
        said, _ = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, said[-4000:]
        return msgspec.json.decode(self.result.read_bytes(), type=Outcomes)

    def end(self) -> None:
        """Whatever has become of it."""
        self.process.kill()
        self.process.communicate()


def prepare(lab: Lab) -> None:
    """Has the kernels of both hosts choose among our ports."""
    for host in ("host1", "host2"):
        done = lab.exec(host, "sysctl", "-w", *_SETTINGS)
        assert done.returncode == 0, done.stderr


def register(lab: Lab, host: str) -> None:
    """Every port that a server on this host may get; in force in all workers when it returns."""
    place, token = lab.member(host), lab.node_token(host)
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        entry = {**catalog.service_entry(place, SERVICE, port, (place.ipv4, place.ipv6)), "ID": f"{SERVICE}-{port}"}
        lab.catalog("PUT", "/v1/agent/service/register", entry, token=token)
    for each in lab.state.members:
        wait_until(partial(_knows_all, each, host), f"{each.name} knows {PORTS} instances on {host}")


def start(lab: Lab, way: str, modules: Sequence[str], left_out: Sequence[str], directory: Path) -> Run:
    """Runs modules of the package `test`; `localhost` is the server's host to them, in IPv4.

    Not in both families: a program that tries one address of a name after the other stays at the first in the mesh.
    """
    place = lab.host(SERVER_HOST[way])
    hosts, result = directory / "hosts", directory / "result.json"
    hosts.write_text(f"{place.ipv4} localhost\n")
    order: Mapping[str, Any] = {
        "modules": modules, "left_out": left_out, "ipv4": place.ipv4, "ipv6": place.ipv6, "result": str(result),
        "servers_in": f"/proc/{lab.state.holder(place).pid}/ns/net" if way == "tunnel" else "",
    }  # fmt: skip
    script = f'mount --bind {hosts} /etc/hosts && exec {_PYTHON} -W ignore "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(_PROGRAM), json.dumps(order)]
    out = subprocess.PIPE
    return Run(lab.popen("host1", command, service="shop", stdout=out, stderr=subprocess.STDOUT, text=True), result)


def _knows_all(at: Host, host: str) -> bool:
    parts = ask_agent(at, "/v1/services", ServicesAnswer).services
    known = sum(instance.host == host for part in parts if part.name == SERVICE for instance in part.instances)
    # A worker answers its questions and takes its changes in one order: after this answer it has the change.
    return known == PORTS and ask_agent(at, "/v1/connections?limit=1", ConnectionsAnswer).unanswered == 0
