"""Connections of captured services that the agent does not carry: those that were open before it captured. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Literal, NamedTuple

from nodeagent.process.sock_diag import Listed, is_established
from redirect.flow import Flow


class Place(NamedTuple):
    """Where an instance listens."""

    ip: bytes
    port: int


class Uncarried(NamedTuple):
    """A connection that goes around the agent."""

    direction: Literal["outbound", "inbound"]
    """`outbound`: its caller is on this host, where the service may be too."""
    flow: Flow
    """The end on this host first."""
    service: str
    """The one that is called."""
    cgroup_id: int
    """Of whoever made the socket on this host; 0: the kernel does not say."""


def find_uncarried(
    sockets: Iterable[Listed], services: Mapping[Place, str], local: Collection[Place], agent: Collection[int]
) -> tuple[Uncarried, ...]:
    """Established connections to registered places of which no socket of the agent is the other end on this host.

    services: every registered place that is captured; local: those of this host. agent: the cgroups of the agent.
    What the agent carries has a socket of its own that mirrors the application's: it ends where that one begins. A call
    from this host to this host is named once, by its caller.
    """
    open_ones = [listed for listed in sockets if is_established(listed.row)]
    ours = {listed.flow for listed in open_ones if listed.row.cgroup_id in agent}
    accepted = {Place(flow.dst, flow.dport) for flow in ours}
    flows = {listed.flow for listed in open_ones}

    def is_carried(direction: str, flow: Flow) -> bool:
        if direction == "outbound":  # redirected: the agent's end has its own address, but the caller's as the other end
            return Place(flow.src, flow.sport) in accepted
        return flow.turned in flows

    return tuple(
        Uncarried(direction, listed.flow, service, listed.row.cgroup_id)
        for listed in open_ones
        if listed.flow not in ours
        for direction, service in _sides(listed.flow, services, local)
        if not is_carried(direction, listed.flow)
    )


def _sides(
    flow: Flow, services: Mapping[Place, str], local: Collection[Place]
) -> Iterator[tuple[Literal["outbound", "inbound"], str]]:
    """What a connection is, seen from this host; loopback is not captured."""
    called, calling = Place(flow.dst, flow.dport), Place(flow.src, flow.sport)
    if ip_address(flow.dst).is_loopback:
        return
    if called in services:
        yield "outbound", services[called]
    elif calling in local:
        yield "inbound", services[calling]
