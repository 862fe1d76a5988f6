"""Much at once: 1 GiB each way over one connection, and 5,000 connections over two workers."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture
from tests.e2e.support import look, mesh
from tests.e2e.support.waiting import wait_until

SUPPORT = Path(__file__).parent / "support"
PORT = 7100
GIBIBYTE = 1 << 30
BULK_S = 250.0
CROWD = 5000
SNAP_BYTES = 192  # headers and two repetitions of the canary

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    """`start(host, service, program, *arguments)`: a program of these tests, until the test ends."""
    with ExitStack() as stack:

        def begin(host: str, service: str, program: str, *arguments: str) -> "subprocess.Popen[str]":
            command = [sys.executable, str(SUPPORT / program), *arguments]
            process = lab.popen(host, command, service=service, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture(scope="module")
def ip(lab: Lab) -> str:
    """The address of the service that shop may call."""
    lab.register("host2", "much", PORT)
    mesh.allow(lab, "shop", "much")
    return lab.host("host2").ipv4


def line_of(process: "subprocess.Popen[str]") -> str:
    """What it says next."""
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.slow
def test_a_gibibyte_each_way_at_once(
    lab: Lab, ip: str, start: Start, capture: Capture, canary: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Every byte arrives, in order, in both directions of one connection."""
    wire = capture(lab, snap_bytes=SNAP_BYTES)
    server = start("host2", "much", "bulk.py", "serve", str(PORT), str(GIBIBYTE), canary)
    assert line_of(server) == "ready"
    client = start("host1", "shop", "bulk.py", "call", ip, str(PORT), str(GIBIBYTE), canary)
    told = [json.loads(process.communicate(timeout=BULK_S)[0]) for process in (client, server)]
    assert [end["bytes"] for end in told] == [GIBIBYTE, GIBIBYTE]
    assert (told[0]["sent"], told[0]["received"]) == (told[1]["received"], told[1]["sent"])
    record_testsuite_property("gibibyte_each_way_seconds", told[0]["seconds"])
    mesh.wait_quiet(lab)
    wire.assert_never_in_clear(canary)


def test_five_thousand_connections_at_once(
    lab: Lab, ip: str, start: Start, capture: Capture, canary: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """All open, shared by both workers of either host, each with its own words; when they have ended, nothing is left."""
    wire = capture(lab)
    server = start("host2", "much", "crowd.py", "serve", str(PORT))
    assert line_of(server) == "ready"
    memory = [mesh.pss_kib(worker.pid) for worker in mesh.all_workers(lab)]
    client = start("host1", "shop", "crowd.py", "call", ip, str(PORT), str(CROWD), canary)
    assert line_of(client) == f"open {CROWD}", refusals(lab)
    wait_until(lambda: [counted(lab, host) for host in ("host1", "host2")] == [CROWD, CROWD], "all are counted")
    assert min(worker.connections for worker in mesh.workers(lab, "host1")) > CROWD // 10
    grown = [mesh.pss_kib(worker.pid) - was for worker, was in zip(mesh.all_workers(lab), memory, strict=True)]
    record_testsuite_property("worker_kib_per_connection", [round(sum(each) / CROWD, 1) for each in (grown[:2], grown[2:])])
    told, _ = client.communicate("close\n", timeout=120)
    assert told.strip() == f"closed {CROWD}"
    mesh.wait_quiet(lab)
    assert "0 connections" in lab.exec("host1", "nodeagent", "status").stdout
    assert "0 connections" in lab.exec("host2", "nodeagent", "status").stdout
    wire.assert_never_in_clear(canary)


def refusals(lab: Lab) -> Counter[tuple[str, str, str]]:
    """How often which host ended a connection for which reason."""
    rows = ((host, row) for host in ("host1", "host2") for row in look.log_lines(lab, host))
    return Counter((host, row["reason"], row.get("error", "")) for host, row in rows if row["reason"] != "ok")


def counted(lab: Lab, host: str) -> int:
    """Connections that the agent of a host says are open."""
    return sum(worker.connections for worker in mesh.workers(lab, host))
