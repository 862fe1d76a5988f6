"""Who dies or hangs, and what new connections meet then: a table, by the fail mode of the host and of the service.

host1 is open and host2 closed; both are broken alike. What they call is on host3, and calls to them come from the hub. Neither
has an agent: so an application sees by the port of its caller whether an agent was in between.
"""

import itertools
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from redirect.plan import ALIVE_S
from redirect.settings import Backend
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call_with, heard, say
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

SILENT_S = 5.0  # as promised: no call waits longer for its answer or its refusal
PORTS = {"free": 8001, "safe": 8002, "own": 8003}
"""`safe` is strict; `own` has the other fail mode than its host."""
CONFIG = '[service.safe]\nmode = "strict"\nplaintext_ok = true\n[service.own]\nfail = "{other}"\n[service.till]\nfail = "closed"\n'
BROKEN = {"host1": "open", "host2": "closed"}
CALLS = tuple(itertools.product(("out", "in"), PORTS))
_BEATS = re.compile(r"set alive \{[^}]*elements|ipset nodeagent_alive4: \S")
_UNTOLD = "from redirect.ipset import packets_in; print(sum(n for f in (4, 6) for n in packets_in(f'nodeagent_bypassed{f}')))"
_lines = itertools.count(1)

# What a call from (out) or to (in) a broken host meets: the agent, the application itself, or a reset.
SERVED = {("out", "free"): "agent", ("out", "safe"): "agent", ("out", "own"): "agent",
          ("in", "free"): "agent", ("in", "safe"): "reset", ("in", "own"): "agent"}  # fmt: skip
DEAD = {
    "open": {(way, name): "direct" if name == "free" else "reset" for way, name in CALLS},
    "closed": {(way, name): "direct" if name == "own" else "reset" for way, name in CALLS},
}


class Row(NamedTuple):
    """One fault."""

    who: str
    how: signal.Signals
    serves: bool
    """The agent helps itself: calls are served again although nobody does anything. Else its fail mode decides."""
    keeps: bool = True
    """Connections that were open flow on meanwhile."""


KILL, STOP = signal.SIGKILL, signal.SIGSTOP
TABLE = (
    Row("control", KILL, serves=True),
    Row("control", STOP, serves=True),
    Row("spawner", KILL, serves=True),
    Row("worker", KILL, serves=True, keeps=False),
    Row("worker", STOP, serves=True, keeps=False),
    Row("workers", KILL, serves=True, keeps=False),
    Row("workers", STOP, serves=True, keeps=False),
    Row("supervisor", KILL, serves=False),
    Row("supervisor", STOP, serves=False),
    Row("all", KILL, serves=False, keeps=False),
    Row("all", STOP, serves=False, keeps=False),
)
DEAD_ROWS = tuple(row for row in TABLE if not row.serves)
NAMES = {"spawner": "nodeagent-spawn", "workers": "nodeagent-w"}
SENTRY = "nodeagent-sentr"
FULL = 8004  # of an application that accepts nobody


class Site:
    """The lab, its applications and callers. Owned by the module."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.apps = {
            (host, name): stack.enter_context(App(lab, host, name, port))
            for host in ("host1", "host2", "host3")
            for name, port in PORTS.items()
        }
        for name in PORTS:
            assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", name).returncode == 0
        self.callers = {host: stack.enter_context(Unit(lab, host, "shop")) for host in BROKEN}
        self.tills = {host: stack.enter_context(Unit(lab, host, "till")) for host in BROKEN}
        self.stranger = stack.enter_context(Unit(lab, "hub"))
        self.directly = dict.fromkeys(BROKEN, 0)
        """Calls that bypassed the agent of a host."""

    def call(self, unit: Unit, host: str, to: str, name: str, address: str) -> str:
        """What a call met; `host` is the broken one."""
        line = f"line-{next(_lines)}"
        (sock,) = unit.sockets(1, 6 if ":" in address else 4)
        began = time.monotonic()
        with sock:
            answer = call_with(sock, address, PORTS[name], line)
            assert time.monotonic() - began < SILENT_S, (host, to, name, address, answer)
            if answer != f"app:{line}":
                assert answer in ("reset", "refused", "closed"), answer
                return "reset"
            is_direct = self.apps[to, name].ports[line] == sock.getsockname()[1]
        self.directly[host] += is_direct
        return "direct" if is_direct else "agent"

    def met(self, host: str) -> dict[tuple[str, str], str]:
        """What each kind of call met, over both families alike."""
        return {(way, name): self._met(host, way, name) for way, name in CALLS}

    def _met(self, host: str, way: str, name: str) -> str:
        unit, to = (self.callers[host], "host3") if way == "out" else (self.stranger, host)
        place = self.lab.host(to)
        return "/".join(sorted({self.call(unit, host, to, name, address) for address in (place.ipv4, place.ipv6)}))

    def pids(self, host: str, who: str) -> list[int]:
        """Of the agent's processes with that part."""
        pids = self.lab.pids(host, layout.AGENT)
        if who == "all":
            return [*pids]
        status = look.status(self.lab, host)
        if who in ("supervisor", "control"):
            return [status["supervisor"]["pid"] if who == "supervisor" else status["control_pid"]]
        if who == "worker":
            return [look.first_worker(self.lab, host)[1]]
        return [pid for pid in pids if look.comm(pid).startswith(NAMES[who])]

    def bypassed(self, host: str) -> int:
        """As the agent tells it; -1 while control is not there to tell."""
        done = self.lab.exec(host, "nodeagent", "status", "-o", "json")
        return int(json.loads(done.stdout)["interception"]["bypassed"]) if done.stdout else -1

    def untold(self, host: str) -> int:
        """Calls that the kernel let by, and nobody has counted yet."""
        if self.lab.state.backend == "nft":
            shown = self.lab.exec(host, "nft", "list", "counter", "inet", "nodeagent", "bypassed").stdout
            return int(shown.split("packets ")[1].split()[0])
        shown = self.lab.exec(host, sys.executable, "-c", _UNTOLD).stdout
        return int(shown)

    def beats(self, host: str) -> bool:
        """Whether the dead-man switch is up."""
        shown = self.lab.exec(host, "nodeagent", "intercept", "show")
        assert shown.returncode == 0, shown.stderr
        return bool(_BEATS.search(shown.stdout))


def wait_served(site: Site, host: str) -> None:
    """The first beat has captured again; each call meanwhile was answered or refused in time."""
    eventually(lambda: site.met(host) == SERVED, 10 * ALIVE_S, f"calls of {host} are served")


@pytest.fixture(scope="module")
def site(make_lab: MakeLab, backend: Backend) -> Iterator[Site]:
    """As the module says."""
    lab = make_lab(hosts=3, mode="permissive", agents=False, backend=backend)
    for host, fail in BROKEN.items():
        other = "closed" if fail == "open" else "open"
        edit_config(lab, host, {"[intercept]": f'[intercept]\nfail = "{fail}"'}, added=CONFIG.format(other=other))
        lab.start_agent(host)
    with ExitStack() as stack:
        made = Site(lab, stack)
        for host in BROKEN:
            wait_served(made, host)
        yield made


WITH_NFT, WITH_IPTABLES = (
    pytest.mark.parametrize("backend", [backend], indirect=True, scope="module") for backend in ("nft", "iptables")
)


@WITH_NFT
@pytest.mark.parametrize("row", TABLE, ids=[f"{row.who}-{row.how.name}" for row in TABLE])
def test_what_new_connections_meet(site: Site, row: Row) -> None:
    """Served, let by or refused, never silent; what was open flows on; what went around the agent is told afterwards."""
    play(site, row)


def play(site: Site, row: Row) -> None:
    """One row of the table."""
    for host in BROKEN:  # what was in the time of another row is told in that time
        eventually(lambda at=host: site.untold(at) == 0, 10 * limits.DRIFT_S, f"{host} has counted")
    kept = {host: site.callers[host].connect(site.lab.host("host3").ipv4, PORTS["free"]) for host in BROKEN}
    assert all(speaks(sock) for sock in kept.values())
    site.directly = dict.fromkeys(BROKEN, 0)
    before = {host: site.bypassed(host) for host in BROKEN}
    told = {host: bypasses_logged(site, host) for host in BROKEN}
    hit = {host: site.pids(host, row.who) for host in BROKEN}
    assert all(hit.values())
    try:
        for pid in itertools.chain(*hit.values()):
            os.kill(pid, row.how)
        for host in BROKEN:
            meets(site, row, host)
            assert not row.keeps or speaks(kept[host])
    finally:
        cure(site, row, hit)
    for host in BROKEN:
        wait_served(site, host)
        if row.how == STOP and not row.serves:
            assert speaks(kept[host])
        expected = site.directly[host] + (before[host] if row.how == STOP or row.serves else 0)
        eventually(lambda at=host, number=expected: site.bypassed(at) == number, look.WITHIN_S, f"{host} tells {expected}")
        assert bypasses_logged(site, host) - told[host] == site.directly[host]
        sample = f"nodeagent_bypassed_total {float(expected)}"
        eventually(lambda at=host, text=sample: text in metrics(site, at), look.WITHIN_S, f"{sample} on {host}")
        kept[host].close()
    assert row.serves or min(site.directly.values()) > 0


def meets(site: Site, row: Row, host: str) -> None:
    """What calls meet while the fault lasts."""
    if row.serves:
        wait_served(site, host)
        assert site.directly[host] == 0, "the agent helped itself before the switch fell"
        return
    eventually(lambda: not site.beats(host), 10 * ALIVE_S, "the switch has fallen")
    expected = DEAD[BROKEN[host]]
    if site.lab.state.backend == "iptables":  # `till` stays closed, and no caller is known from another
        expected = expected | {("out", name): "reset" for name in PORTS}
    assert site.met(host) == expected
    assert site.call(site.tills[host], host, "host3", "free", site.lab.host("host3").ipv4) == "reset"


def speaks(sock: socket.socket) -> bool:
    """Whether an open connection to an App is answered."""
    return say(sock, f"line-{next(_lines)}").startswith("app:line-")


def bypasses_logged(site: Site, host: str) -> int:
    """By all its agents so far."""
    return sum(line["number"] for line in look.log_lines(site.lab, host, "connections_bypassed"))


def metrics(site: Site, host: str) -> str:
    """As Prometheus reads them."""
    return site.lab.exec(host, "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout


def cure(site: Site, row: Row, hit: dict[str, list[int]]) -> None:
    """Whoever hangs goes on; a dead agent is started, as systemd would."""
    for host, pids in hit.items():
        for pid in pids if row.how == STOP else ():
            if pid in site.lab.pids(host, layout.AGENT):  # else its supervisor has replaced it
                os.kill(pid, signal.SIGCONT)
        if row.how == KILL and not row.serves:
            site.lab.kill_agent(host)
            site.lab.start_agent(host)


class FullQueue:
    """An application's own queue, full of callers that came before its port was captured, and open for those who come after."""

    def __init__(self, site: Site, host: str, stack: ExitStack) -> None:
        self._unit = stack.enter_context(Unit(site.lab, host, "full"))
        place = site.lab.host(host)
        self._callers: dict[socket.socket, list[socket.socket]] = {}
        for address in (place.ipv4, place.ipv6):
            listener = self._unit.listen(address, FULL)
            listener.listen(1)  # that is two, for the kernel
            self._callers[listener] = [site.stranger.connect(address, FULL) for _ in range(2)]
        site.lab.register(host, "full", FULL)
        eventually(lambda: re.search(rf"\b{FULL}\b", site.lab.exec(host, "nodeagent", "intercept", "show").stdout), look.WITHIN_S, "it is captured")

    def is_untouched(self) -> bool:
        """Whether all are there, in their order, and talk; then the queue is empty."""
        told = []
        for listener, callers in self._callers.items():
            for caller in callers:
                accepted, (_, port) = self._unit.accept(listener)
                accepted.sendall(b"welcome\n")
                told.append(port == caller.getsockname()[1] and heard(caller) == "welcome")
        return all(told)


class Wave(NamedTuple):
    """Calls of one moment: whatever a host's agent would carry."""

    host: str
    calls: list[Future[tuple[str, float]]]

    def met(self) -> set[str]:
        """What became of them; none was silent for longer than promised."""
        results = [call.result() for call in self.calls]
        assert max(waited_s for _, waited_s in results) < SILENT_S, results
        return {answer.partition(":")[0] for answer, _ in results}


def begin(site: Site, host: str, pool: ThreadPoolExecutor, ports: tuple[int, ...] = (PORTS["free"],)) -> Wave:
    """Calls of the host, and in clear to its ports."""
    here, there = site.lab.host(host), site.lab.host("host3")
    places = [(site.callers[host], address, PORTS["free"]) for address in (there.ipv4, there.ipv6)]
    places += [(site.stranger, address, port) for address in (here.ipv4, here.ipv6) for port in ports]
    made = [(unit.sockets(1, 6 if ":" in address else 4)[0], address, port) for unit, address, port in places]
    return Wave(host, [pool.submit(timed_call, *each) for each in made])


def timed_call(sock: socket.socket, address: str, port: int) -> tuple[str, float]:
    """What a call met, and after how many seconds."""
    began = time.monotonic()
    with sock:
        sock.settimeout(2 * SILENT_S)
        return call_with(sock, address, port, f"line-{next(_lines)}"), time.monotonic() - began


def all_but_the_sentry(site: Site, host: str) -> list[int]:
    """Processes of the agent; waits until there is one."""
    pids = eventually(lambda: found if SENTRY in map(look.comm, found := site.pids(host, "all")) else [], look.WITHIN_S, "a sentry")
    return [pid for pid in pids if look.comm(pid) != SENTRY]


def state_of(pid: int) -> str:
    """T: it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def hang(site: Site) -> None:
    """All but the sentry hang, and calls begin at once, and go on until the switch has fallen."""
    with ExitStack() as stack:
        queues = [FullQueue(site, host, stack) for host in BROKEN]
        kept = [site.callers[host].connect(site.lab.host("host3").ipv4, PORTS["free"]) for host in BROKEN]
        kept += [site.stranger.connect(site.lab.host(host).ipv4, PORTS["free"]) for host in BROKEN]
        assert all(map(speaks, kept))
        hit = {host: all_but_the_sentry(site, host) for host in BROKEN}
        before = {host: ended(site, host) for host in BROKEN}
        pool = stack.enter_context(ThreadPoolExecutor(100))
        stopped = [pid for pids in hit.values() for pid in pids]
        try:
            for pid in stopped:
                os.kill(pid, STOP)
            eventually(lambda: {state_of(pid) for pid in stopped} == {"T"}, look.WITHIN_S, "all of them hang")
            first = [begin(site, host, pool, (PORTS["free"], FULL)) for host in BROKEN]
            later: list[Wave] = []
            while beating := [host for host in BROKEN if site.beats(host)]:
                later += [begin(site, host, pool) for host in beating]
            assert [wave.met() for wave in first] == [{"reset"}] * len(first)
            for wave in later:  # who came as the switch fell may have met the application
                assert wave.met() <= {"reset", "refused", "app" if BROKEN[wave.host] == "open" else "reset"}
            told = [(wave.host, before[wave.host] + len(wave.calls)) for wave in first]
            eventually(lambda: all(ended(site, host) >= number for host, number in told), look.WITHIN_S, "each sentry tells how many it ended")
            assert all(queue.is_untouched() for queue in queues)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        for host in BROKEN:
            wait_served(site, host)
        assert all(map(speaks, kept))


def ended(site: Site, host: str) -> int:
    """Of those who waited, by the log of the sentry."""
    return sum(line["number"] for line in look.log_lines(site.lab, host, "unaccepted_ended"))


@WITH_NFT
def test_who_calls_as_all_of_it_hangs_is_reset_in_time_and_nothing_else_is_touched(site: Site) -> None:
    """Neither what is open, nor an application's own queue at the very address and port."""
    hang(site)


@WITH_NFT
def test_strict_switched_on_beside_open_is_right_by_itself(site: Site) -> None:
    """No restart between the switch and the death: the kernel was told at once."""
    switch = ("nodeagent", "enforce", "strict", "--service", "free", "--yes")
    assert site.lab.exec("host1", *switch).returncode == 0
    try:
        eventually(lambda: site.met("host1")["in", "free"] == "reset", look.WITHIN_S, "strict is in force")
        site.lab.kill_agent("host1")
        eventually(lambda: not site.beats("host1"), 10 * ALIVE_S, "the switch has fallen")
        assert set(site.met("host1").values()) == {"reset"}
    finally:
        site.lab.start_agent("host1")
        assert site.lab.exec("host1", "nodeagent", "enforce", "--reset", "--service", "free", "--yes").returncode == 0
    wait_served(site, "host1")


@WITH_IPTABLES
@pytest.mark.parametrize("row", DEAD_ROWS, ids=[f"{row.who}-{row.how.name}" for row in DEAD_ROWS])
def test_the_same_by_iptables(site: Site, row: Row) -> None:
    """Where the kernel decides; what the agent does about its own is the same."""
    play(site, row)


@WITH_IPTABLES
def test_who_calls_as_all_of_it_hangs_is_reset_in_time_by_iptables_too(site: Site) -> None:
    """As with nft."""
    hang(site)
