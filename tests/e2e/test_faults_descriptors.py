"""Out of descriptors: a worker sheds and does not spin, a supervisor goes on, and both recover by themselves."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.by_hand import agent_by_hand, cpu_s
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("tunnels_only")

WEB, DESCRIPTORS = 8080, 400
CALLS = 2 * DESCRIPTORS
BUSY = 0.1  # of a core, as promised for a process that has no descriptor left


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Unit]:
    """Calls `web` on host2."""
    lab.register("host2", "web", WEB)
    look.decide(lab, "allow", "shop", "web")
    with ExitStack() as stack:
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        yield stack.enter_context(Unit(lab, "host1", "shop"))


def open_descriptors(pid: int) -> int:
    """Of a process."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def share_of_a_core(pid: int, seconds: float) -> float:
    """CPU time by wall time, from now on."""
    began, had = time.monotonic(), cpu_s(pid)
    eventually(lambda: time.monotonic() - began >= seconds, 10 * seconds, "the time has passed")
    return (cpu_s(pid) - had) / (time.monotonic() - began)


def call(shop: Unit, address: str) -> socket.socket | None:
    """An answered connection that stays open; None: it was shed, and said so."""
    with suppress(ConnectionError):
        sock = shop.connect(address, WEB)
        if speaks(sock):
            return sock
    return None


def refused(lab: Lab) -> float:
    """Connections that ended by a limit, as host1 counts them; its log holds fewer lines in a flood."""
    page = lab.exec("host1", "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout
    ended = (line for line in page.splitlines() if line.startswith("nodeagent_connections_total{"))
    return sum(float(line.split()[-1]) for line in ended if 'reason="limit"' in line)


def test_a_worker_without_descriptors_sheds_and_recovers(lab: Lab, shop: Unit) -> None:
    """Each call is answered, or ended and told, none is left waiting; the others and policy go on, and nobody spins."""
    address = lab.host("host2").ipv4
    with agent_by_hand(lab, "host1", through=("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")):
        workers = look.worker_pids(lab, "host1")
        kept = [sock for _ in range(CALLS) if (sock := call(shop, address))]
        assert 0 < len(kept) < CALLS
        eventually(lambda: refused(lab) == CALLS - len(kept), look.WITHIN_S, "all are counted")
        assert all("raise LimitNOFILE=" in line["error"] for line in look.with_facts(lab, "host1", reason="limit"))
        what = f"has used up its {DESCRIPTORS} descriptors"
        eventually(lambda: what in " ".join(look.status(lab, "host1")["problems"]), look.WITHIN_S, "a problem")
        assert max(map(open_descriptors, workers.values())) <= DESCRIPTORS
        assert all(map(speaks, kept[:: len(kept) // 20 or 1]))
        for pid in workers.values():
            assert share_of_a_core(pid, 2.0) < BUSY
        for sock in kept:
            sock.close()
        eventually(lambda: answers(shop, (address, WEB), b"again"), look.WITHIN_S, "it serves again")
        eventually(lambda: look.status(lab, "host1")["healthy"], look.WITHIN_S, "no problem any more")
        eventually(lambda: sum(call(shop, address) is not None for _ in range(50)) == 50, look.WITHIN_S, "as ever")
        assert look.worker_pids(lab, "host1") == workers, "nobody was replaced for it"


def test_a_supervisor_without_descriptors_goes_on_and_starts_what_died_when_it_can(lab: Lab, shop: Unit) -> None:
    """Traffic flows by the worker that is left; beats come; nothing spins; one descriptor more and all is as before."""
    address = (lab.host("host2").ipv4, WEB)
    supervisor = look.status(lab, "host1")["supervisor"]["pid"]
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (open_descriptors(supervisor), before[1]))
    try:
        _, pid = look.kill_worker(lab, "host1")
        eventually(lambda: look.log_lines(lab, "host1", "worker_exited"), look.WITHIN_S, "its end is seen")
        eventually(lambda: answers(shop, address, b"by the others"), look.WITHIN_S, "calls go on")
        assert share_of_a_core(supervisor, limits.ALIVE_S + 1) < BUSY
        assert answers(shop, address, b"the switch has not fallen")
        assert supervisor in lab.pids("host1", layout.AGENT)
    finally:
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, before)
    eventually(lambda: look.is_replaced(lab, "host1", {pid}), 10 * limits.RESTART_MIN_S + look.WITHIN_S, "a successor")
    assert answers(shop, address, b"as before")
