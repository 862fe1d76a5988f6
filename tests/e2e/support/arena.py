"""A mesh to be attacked: who is attacked, who attacks, who must not notice, and what it cost."""

import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from nodeagent import limits
from nodeagent.control.report import ConnectionsAnswer, Status
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import AGENT
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import DATACENTER, Impostor
from tests.e2e.support.toll import accepted_from, descriptors
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, BACK, DEAD = 8080, 8082, 8081
POLITE = "polite"
HOSTS = ("host1", "host2", "host3")
ALERT = b"\x15\x03\x03\x00\x02\x02"
WITHIN_S = 60.0


class Held(NamedTuple):
    """What the attacked agent holds."""

    files: list[str]
    """The worker's."""
    connections: int
    tunnels: int


class Arena:
    """`web` on host2 is called by a polite service of host1 and attacked from host3. Ends with its `with`.

    The agent of host2 has one worker, so that attackers and callers share it, and its records come in order.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.victim = lab.host("host2")
        self._directory = directory
        self._stack = ExitStack()
        self._accounted = self._polite = 0

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        enter(App(self.lab, "host2", "web", WEB))
        enter(App(self.lab, "host1", "back", BACK))
        self.lab.register("host2", "dead", DEAD)
        for destination in ("web", "dead", "back"):
            look.allow(self.lab, "shop", destination)
        look.allow(self.lab, POLITE, "web")
        self.impostor = enter(Impostor(self.lab, "host3", self._directory))
        self.local = enter(Unit(self.lab, "host2"))
        self.polite = enter(Unit(self.lab, "host1", POLITE))
        self.stranger = enter(Unit(self.lab, "hub"))
        _, self.worker = look.first_worker(self.lab, "host2")
        self.control = self.status().control_pid
        self.ticket = self.impostor.svid("shop")
        assert self.is_polite_served()
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- what attacks need -------------------------------------------------------------------------------------------

    @property
    def domain(self) -> str:
        """The mesh's trust domain."""
        return self.impostor.domain

    def sni(self, service: str = "web", domain: str = "") -> str:
        """A service's server name."""
        return f"{service}.default.{DATACENTER}.internal.{domain or self.domain}"

    # --- what must hold ------------------------------------------------------------------------------------------------

    def is_polite_served(self) -> bool:
        """Whether a caller through its own agent is answered, and one in a tunnel that is opened for it."""
        self.call_politely()
        assert self.impostor.call(self.ticket, f"{self.victim.ipv4}:{WEB}") == 200
        return True

    def call_politely(self) -> None:
        """One call through the agents, which leaves a line of its own."""
        assert call(self.polite, self.victim.ipv4, WEB, "polite") == "app:polite"
        self._polite += 1

    def lines(self) -> list[dict[str, Any]]:
        """What host2 wrote of connections since the last call, but for the polite ones.

        A polite call is made, and its line awaited: the worker tells in order, so that nothing from before it is missing.
        """
        self.call_politely()
        eventually(lambda: sum(map(_is_polite, self._all_lines())) == self._polite, WITHIN_S, "the polite call's line")
        lines = self._all_lines()
        fresh, self._accounted = lines[self._accounted :], len(lines)
        return [line for line in fresh if not _is_polite(line)]

    def settle(self) -> Held:
        """Takes note of all lines, and waits until nothing is open but the polite caller's tunnel: what is held then."""
        self.lines()

        def quiet() -> Held | None:
            held = self.held()
            return held if (held.connections, held.tunnels) == (0, 1) else None

        held = eventually(quiet, WITHIN_S, "everything has ended")
        assert held
        return held

    def is_heard(self, sock: socket.socket) -> bool:
        """Whether the agent has accepted that connection: its other end belongs to somebody."""
        return any(port == sock.getsockname()[1] for port in accepted_from(self.worker))

    def _all_lines(self) -> list[dict[str, Any]]:
        return look.log_lines(self.lab, "host2")

    def status(self) -> Status:
        """What host2's agent says of itself."""
        return ask_agent(self.victim, "/v1/status", Status)

    def errors_shown(self) -> list[str]:
        """What host2's agent answers about the connections that ended last."""
        answer = ask_agent(self.victim, "/v1/connections?closed=1&limit=5", ConnectionsAnswer)
        return [row.error for row in answer.connections]

    def held(self) -> Held:
        """Now."""
        workers = self.status().workers
        figures = sum(worker.connections for worker in workers), sum(worker.tunnels for worker in workers)
        return Held(descriptors(self.worker), *figures)

    def ended(self) -> Counter[str]:
        """How many connections ended for which reason, by host2's own count."""
        page = self.lab.exec("host2", "curl", "-sS", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == "nodeagent_connections_total":
                    found[sample.labels["reason"]] += int(sample.value)
        return found

    def assert_unharmed(self) -> None:
        """The same processes, healthy, and nobody said a word about a defect."""
        status = self.status()
        assert (status.healthy, status.control_pid) == (True, self.control)
        assert [worker.pid for worker in status.workers if worker.state != "standby"] == [self.worker]
        for host in HOSTS:
            assert "Traceback" not in self.lab.host(host).log(AGENT).read_text(), host


def _is_polite(line: dict[str, Any]) -> bool:
    return bool(line["source"] == POLITE)


def answer_on(sock: socket.socket) -> str:
    """How the other end answers until it ends: `alert N`, `closed`, `reset`, or what it said."""
    said, end = b"", "closed"
    try:
        while part := sock.recv(65_536):
            said += part
    except ConnectionResetError:
        end = "reset"
    if said.startswith(ALERT) and len(said) == len(ALERT) + 1:
        return f"alert {said[-1]}"
    return end if not said else f"{said!r}, {end}"
