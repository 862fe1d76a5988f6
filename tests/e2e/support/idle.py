"""Connections on which nobody says anything, and what conntrack thinks of them."""

import re
from collections.abc import Collection

from nodeagent.lab.lab import Lab
from tests.e2e.support.peers import Pair

SHORT_S = 35
"""A little more than the agent's keep-alive of 25 s, as 60 s, the kernel's own for the half-closed, are more than two."""
_STATES = ("established", "close_wait", "fin_wait")
_ENTRY = re.compile(r"^tcp\s+6 (\d+) \w+ src=\S+ dst=\S+ sport=(\d+) ", re.MULTILINE)
KINDS = ("whole", "client has ended", "server has ended")


def shorten_conntrack(lab: Lab) -> None:
    """On every host, conntrack forgets a connection after SHORT_S seconds without a packet."""
    for host in lab.state.members:
        settings = [f"net.netfilter.nf_conntrack_tcp_timeout_{state}={SHORT_S}" for state in _STATES]
        done = lab.exec(host.name, "sysctl", "-w", *settings)
        assert done.returncode == 0, done.stderr


def open_kinds(pair: Pair, way: str) -> list[int]:
    """A connection of each kind, which has been used and from which nothing is to come for a while; the client's ports."""
    ports = []
    for kind in KINDS:
        name = f"{way}, {kind}"
        pair.open(name)
        for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
            one.do("send", name, "before")
            assert other.do("recv", name, 6) == "before"
        ports.append(pair.client.do("places", name)[0][1])
    pair.client.do("shut", f"{way}, client has ended")
    pair.server.do("shut", f"{way}, server has ended")
    return ports


def use_kinds(pair: Pair, way: str) -> dict[str, list[str]]:
    """What arrives, of words and ends, when they are used again: at the server, then at the client."""
    heard: dict[str, list[str]] = {}
    for kind in KINDS:
        name = f"{way}, {kind}"
        for one, other, who in ((pair.client, pair.server, "client"), (pair.server, pair.client, "server")):
            if kind != f"{who} has ended":
                one.do("send", name, "after")
                one.do("shut", name)
            heard.setdefault(kind, []).append(other.do("recv", name, 10))
    return heard


class Renewals:
    """How often conntrack's entries of some connections were renewed since they were first looked at."""

    def __init__(self, lab: Lab, host: str, family: int, port: int) -> None:
        self._list = (lab, host, "conntrack", "-L", "-f", f"ipv{family}", "-p", "tcp", "--orig-port-dst", str(port))
        self._left: dict[int, int] = {}
        self._risen: dict[int, int] = {}

    def least(self, ports: Collection[int]) -> int:
        """Of the connections from these client's ports: the renewals of the one with the fewest. Looks again; all are known."""
        lab, host, *command = self._list
        done = lab.exec(host, *command)
        assert done.returncode == 0, done.stderr
        listed = {int(port): int(left) for left, port in _ENTRY.findall(done.stdout)}
        assert listed.keys() >= set(ports), f"conntrack on {host} has forgotten connections from {set(ports) - listed.keys()}"
        for port, left in listed.items():
            if left > self._left.get(port, left):
                self._risen[port] = self._risen.get(port, 0) + 1
            self._left[port] = left
        return min(self._risen.get(port, 0) for port in ports)
