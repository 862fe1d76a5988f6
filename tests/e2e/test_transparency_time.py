"""Connections that nobody uses for long, and ten thousand that nobody uses twice: as without the mesh.

What takes ten minutes on a real host takes one here, as conntrack forgets sooner in these hosts. The real ten minutes are
waited when NODEAGENT_IDLE_S says how many seconds they are.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import mesh
from tests.e2e.support.idle import KINDS, Renewals, open_kinds, shorten_conntrack, use_kinds
from tests.e2e.support.peers import Pair, start_peer
from tests.e2e.support.waiting import wait_until

CROWD = Path(__file__).parent / "support" / "crowd.py"
PORT = 7300
COUNT = 10_000
SHORT_LIVES_S = 120.0  # a few seconds on a quiet machine
RENEWALS = 2  # of a conntrack entry: by then it is older than it may get unused
RENEWED_S = 500.0  # twice the 25 s of the agent's keep-alive
IDLE_S = os.environ.get("NODEAGENT_IDLE_S", "")
HEARD = (["after<EOF>", "after<EOF>"], ["<EOF>", "after<EOF>"], ["after<EOF>", "<EOF>"])  # at the server and the client, by kind
WAYS = {"meshed": ("host1", 4), "meshed-ipv6": ("host1", 6), "local": ("host2", 4)}


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Hosts without agents."""
    return make_lab(agents=False)


@pytest.fixture(scope="module")
def meshed(make_lab: MakeLab) -> Lab:
    """Hosts with agents; shop may call echo."""
    lab = make_lab()
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")
    return lab


@contextmanager
def idle_pairs(lab: Lab) -> Iterator[dict[str, Pair]]:
    """One listener, a caller for each way to it."""
    host = lab.host("host2")
    with ExitStack() as stack:
        server = stack.enter_context(start_peer(lab, "host2", "echo", str(PORT)))
        yield {
            way: Pair(stack.enter_context(start_peer(lab, caller, "shop")), server, host.ipv6 if family == 6 else host.ipv4, PORT)
            for way, (caller, family) in WAYS.items()
        }


def used_after(lab: Lab, wait: Callable[[dict[str, list[int]]], None]) -> dict[str, dict[str, list[str]]]:
    """What is heard on connections of all kinds and ways after a wait, which is told the clients' ports."""
    with idle_pairs(lab) as pairs:
        wait({way: open_kinds(pair, way) for way, pair in pairs.items()})
        return {way: use_kinds(pair, way) for way, pair in pairs.items()}


def wait_renewed(lab: Lab, ports: dict[str, list[int]]) -> None:
    """Until every entry would be gone, had nobody renewed it."""
    looks = {way: Renewals(lab, caller, family, PORT) for way, (caller, family) in WAYS.items()}
    wait_until(
        lambda: all(looks[way].least(ports[way]) >= RENEWALS for way in WAYS),
        "conntrack's entries of idle connections are renewed", RENEWED_S, every_s=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def heard_at_once(bare: Lab) -> dict[str, dict[str, list[str]]]:
    """Between bare hosts, where nothing can forget a connection."""
    heard = used_after(bare, lambda _: None)
    assert heard == {way: dict(zip(KINDS, HEARD, strict=True)) for way in WAYS}
    return heard


@pytest.mark.slow
@pytest.mark.timeout(RENEWED_S + float(IDLE_S or 0))
@pytest.mark.parametrize("idle_s", [0.0, *([float(IDLE_S)] if IDLE_S else [])], ids=lambda idle_s: f"{idle_s:g}s" if idle_s else "shortened")
def test_idle_connections_go_on(make_lab: MakeLab, heard_at_once: dict[str, dict[str, list[str]]], idle_s: float) -> None:
    """Whole or closed by half, on every way, after as long as conntrack would have kept them twice, or as one likes to wait."""
    lab = make_lab()
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")
    if idle_s:
        heard = used_after(lab, lambda _: time.sleep(idle_s))  # the silence is what is tested
    else:
        shorten_conntrack(lab)
        heard = used_after(lab, lambda ports: wait_renewed(lab, ports))
    assert heard == heard_at_once
    mesh.wait_quiet(lab)


def short_lives(lab: Lab, way: str, text: str) -> dict[str, int]:
    """What became of COUNT connections, by how they ended."""
    caller, family = WAYS[way]
    host = lab.host("host2")
    ip = host.ipv6 if family == 6 else host.ipv4
    command = [sys.executable, str(CROWD)]
    server = lab.popen("host2", [*command, "serve", str(PORT)], service="echo", stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        done = lab.exec(caller, *command, "short", ip, str(PORT), str(COUNT), text, service="shop", timeout_s=SHORT_LIVES_S)
    finally:
        server.kill()
        server.communicate()
    assert done.returncode == 0, done.stderr
    ended: dict[str, int] = json.loads(done.stdout)
    return ended


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_ten_thousand_short_connections(bare: Lab, meshed: Lab, capture: Capture, canary: str, way: str) -> None:
    """Opened, used once, ended from both sides: not one fails, and nothing of them is left."""
    wire = capture(meshed)
    assert short_lives(bare, way, canary) == {"answered": COUNT}
    before = opened(meshed, WAYS[way][0])
    assert short_lives(meshed, way, canary) == {"answered": COUNT}
    mesh.wait_quiet(meshed)
    wait_until(lambda: opened(meshed, WAYS[way][0]) == before + COUNT, "all of them are counted")
    asked = meshed.exec(WAYS[way][0], "nodeagent", "service", "list")  # of a host's own calls nothing crosses the wire
    assert asked.returncode == 0, asked.stderr
    wire.assert_never_in_clear(canary)


def opened(lab: Lab, host: str) -> int:
    """Connections of workloads that the agent of a host has captured so far."""
    return mesh.opened(lab, host)["outbound"]
