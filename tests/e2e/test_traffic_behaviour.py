"""A client that is gone, or an application that is not there, when the agent looks: what is heard, and what is recorded.

What programs see of each other while both are there is the table of test_transparency.py.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import mesh
from tests.e2e.support.peers import Pair, start_peer

PORT = 7000


@pytest.fixture(scope="module")
def meshed(make_lab: MakeLab) -> Iterator[Lab]:
    """Hosts with agents; shop may call echo. When all programs have ended, both agents have forgotten them."""
    lab = make_lab()
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")
    yield lab
    mesh.wait_quiet(lab)


@contextmanager
def peers(lab: Lab) -> Iterator[Pair]:
    """A caller as `shop` on host1, a listener as `echo` on host2."""
    with start_peer(lab, "host2", "echo", str(PORT)) as server, start_peer(lab, "host1", "shop") as client:
        yield Pair(client, server, lab.host("host2").ipv4, PORT)


@contextmanager
def stopped_workers(lab: Lab, host: str) -> Iterator[None]:
    """The workers of a host stand still: the kernel accepts for them."""
    pids = [worker.pid for worker in mesh.workers(lab, host)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_client_that_was_gone_before_the_agent_looked_is_heard(meshed: Lab, capture: Capture, canary: str) -> None:
    """It is identified although no process and no socket of it is left."""
    wire = capture(meshed)
    began = time.time()
    with peers(meshed) as pair:
        with stopped_workers(meshed, "host1"), start_peer(meshed, "host1", "shop") as client:
            client.do("connect", "a", pair.ip, pair.port)
            client.do("send", "a", canary)
        pair.server.do("accept", "a")
        assert pair.server.do("recv", "a", 1000) == f"{canary}<EOF>"
        pair.server.do("close", "a")
    (row,) = mesh.calls_since(meshed, "host1", began)
    assert (row.source, row.reason, row.sent) == ("shop", "ok", len(canary))
    wire.assert_never_in_clear(canary)


def test_a_client_that_reset_before_the_agent_looked_leaves_a_row_and_nothing_else(meshed: Lab) -> None:
    """Its end is closed, nobody calls it a defect, and the agent goes on."""
    began = time.time()
    with peers(meshed) as pair:
        with stopped_workers(meshed, "host1"):
            for number in range(20):
                pair.client.do("connect", str(number), pair.ip, pair.port)
                pair.client.do("reset", str(number))
        rows = mesh.calls_since(meshed, "host1", began, 20)
        assert {(row.reason, row.side, row.path) for row in rows} == {("reset_by_downstream", "downstream", "none")}
        assert pair.open()
    assert "Traceback" not in meshed.host("host1").log("nodeagent").read_text()


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_listening_is_an_accept_and_a_reset_at_once(meshed: Lab, family: int) -> None:
    """The one difference that interception cannot avoid: the README says so. The callee's kernel refuses, no timer runs."""
    began = time.time()
    host = meshed.host("host2")
    with start_peer(meshed, "host1", "shop") as client:
        assert client.is_reset(host.ipv4 if family == 4 else host.ipv6, PORT)
    (row,) = mesh.calls_since(meshed, "host1", began)
    assert (row.reason, row.side, row.path) == ("upstream_refused", "upstream", "tunnel")
