"""Connections from before the agent: they survive its installation, change, restart and removal, data flowing both ways."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.callers import call
from tests.e2e.support.echo import Echo, received
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire, new_canary
from tests.support.eventually import eventually

WEB, OTHER = 8080, 9090
ROUNDS = 20
PACE_S = 0.02  # eight flows without a pause would leave nothing of the machine for the agents
BLOCK = bytes(range(256)) * 16


class Flow:
    """Numbered blocks there and back again, all the time, in a thread, until its `with` ends."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name, self.rounds, self.error = name, 0, ""
        self._sock = sock
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(PACE_S):
                block = self.rounds.to_bytes(8, "big") + BLOCK
                self._sock.sendall(block)
                if received(self._sock, len(block)) != block:
                    self.error = f"round {self.rounds}: other bytes, or an end"
                    return
                self.rounds += 1
        except OSError as error:
            self.error = f"round {self.rounds}: {error}"


@pytest.fixture
def bare(make_lab: MakeLab) -> Lab:
    """Two hosts of the catalog, no agent anywhere, conntrack asleep."""
    return make_lab(agents=False)


@pytest.fixture
def flows(bare: Lab) -> Iterator[list[Flow]]:
    """Old connections in both directions, over both families, to a port that will be registered and to one that will not."""
    with ExitStack() as stack:
        found = []
        for host, peer in (("host1", "host2"), ("host2", "host1")):
            server = stack.enter_context(Unit(bare, host, "web"))
            client = stack.enter_context(Unit(bare, peer, "shop"))
            for port in (WEB, OTHER):
                stack.enter_context(Echo(server.listen("::", port)))
                for address in (bare.host(host).ipv4, bare.host(host).ipv6):
                    sock = client.connect(address, port)
                    found.append(stack.enter_context(Flow(sock, f"{peer} -> {address} {port}")))
        yield found


@pytest.mark.slow
def test_old_connections_outlive_everything(bare: Lab, flows: list[Flow], wire: Wire) -> None:
    """Eight of them, each speaking all the time; new calls are captured meanwhile, as the rules say."""
    lab, canary, hosts = bare, new_canary(), [host.name for host in bare.state.members]

    def everywhere(act: Callable[[str], object]) -> None:
        for host in hosts:
            act(host)

    def register() -> None:
        for host in hosts:
            lab.register(host, f"web-{host}", WEB)
            look.allow(lab, "shop", f"web-{host}")
        assert_tunnelled(lab, canary)

    def change() -> None:
        for host in hosts:
            edit_config(lab, host, {"[intercept]": "[intercept]\nexclude_ports = [7000]"})
            run(lab, host, "intercept", "apply")
        restart(lab, "host1")
        assert_tunnelled(lab, canary)

    steps: list[tuple[str, Callable[[], object]]] = [
        ("before", lambda: None),
        ("rules without an agent", lambda: everywhere(lambda host: run(lab, host, "intercept", "apply"))),
        ("agents", lambda: everywhere(lab.start_agent)),
        ("registered", register),
        ("changed and restarted", change),
        ("killed", lambda: everywhere(lab.kill_agent)),
        ("started", lambda: everywhere(lab.start_agent)),
        ("stopped", lambda: everywhere(lab.stop_agent)),
        ("removed", lambda: everywhere(lambda host: run(lab, host, "intercept", "remove"))),
        ("removed for good", lambda: everywhere(lambda host: run(lab, host, "intercept", "remove", "--now"))),
    ]
    for name, step in steps:
        step()
        wanted = [flow.rounds + ROUNDS for flow in flows]
        eventually(lambda w=wanted: all(f.error or f.rounds >= n for f, n in zip(flows, w, strict=True)), 60, name)
        assert {flow.name: flow.error for flow in flows if flow.error} == {}, name
    assert lab.exec("host1", "nft", "list", "tables").stdout == ""
    wire.assert_never_in_clear(canary)


def run(lab: Lab, host: str, *command: str) -> None:
    """`nodeagent …` on a host."""
    done = lab.exec(host, "nodeagent", *command)
    assert done.returncode == 0, done.stderr


def assert_tunnelled(lab: Lab, canary: str) -> None:
    """New calls between the hosts, in both directions, are carried by the agents."""
    for host, peer in (("host1", "host2"), ("host2", "host1")):
        with Unit(lab, host, "shop") as shop:
            assert call(shop, lab.host(peer).ipv4, WEB, canary) == canary
    eventually(lambda: look.with_facts(lab, "host1", direction="outbound") != [], 10, "a log line of the call")
    assert {row["path"] for row in look.with_facts(lab, "host1", direction="outbound")} == {"tunnel"}


@pytest.fixture
def wire(bare: Lab, flows: list[Flow], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """The heads of all packets: the old connections carry too much to be kept whole, and no canary."""
    made = Wire(bare, tmp_path_factory.mktemp("wire"), snap_bytes=400)
    yield made
    made.close()
