"""Which hosts take tunnels where Consul's own agents keep the hosts' rows: a service of each host that says so; pure.

A host's node meta is its Consul agent's, which takes back what others write of it. What the agent was told itself it keeps.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.state import MARKER_SERVICE, InstanceRow
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance


class Claim(NamedTuple):
    """An address that a host's agent names, and that is not taken from it."""

    ip: str
    host: str
    owner: str
    """Who has it; empty: the claimant has as many as one host may."""


class Marked(NamedTuple):
    """The hosts with what their agents say, by name."""

    hosts: tuple[Host, ...]
    refused: tuple[Claim, ...]


def with_markers(hosts: Iterable[Host], rows: Iterable[InstanceRow]) -> Marked:
    """The hosts with what their agents say. rows: of the service MARKER_SERVICE.

    An agent names the addresses at which its host is in the mesh, as Consul knows one of each family. Whoever may register a
    service could claim any. So one that another host has by its own row stays that host's; of two agents the one that said it
    first counts, where a changed registration is a new word; and no host has more than HOST_ADDRESSES by its word.
    """
    listed = {host.name: host for host in hosts}
    owner = {ip: host.name for host in listed.values() for ip in host.addresses}
    refused: list[Claim] = []
    for row in sorted(rows, key=lambda row: (row.said_at, row.host.name)):
        said = row.host
        if said.tunnel_port:
            own = set(listed[said.name].addresses) if said.name in listed else set()
            refused += _take_claims(said, own, owner)
            listed[said.name] = Host(said.name, tuple(sorted(own, key=lambda ip: (":" in ip, ip))), said.tunnel_port)
    return Marked(tuple(listed[name] for name in sorted(listed)), tuple(refused))


def _take_claims(said: Host, own: set[str], owner: dict[str, str]) -> Iterator[Claim]:
    """Adds to its `own` addresses, and to their `owner`, what is believed; gives what is not."""
    for ip in said.addresses:
        if owner.get(ip, said.name) != said.name:
            yield Claim(ip, said.name, owner[ip])
        elif ip not in own and len(own) >= limits.HOST_ADDRESSES:
            yield Claim(ip, said.name, "")
        else:
            owner[ip] = said.name
            own.add(ip)


def claims_alarm(refused: tuple[Claim, ...]) -> str:
    """In one sentence; empty: nothing was refused."""
    if not refused:
        return ""
    first = refused[0]
    whose = f"{first.owner} has it" if first.owner else f"that are more than {limits.HOST_ADDRESSES} of one host"
    more = f"; so are {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"{first.host} claims {first.ip} by its service {MARKER_SERVICE}, and is not believed: {whose}{more}"


def markers_of(hosts: Iterable[Host]) -> tuple[InstanceRow, ...]:
    """What the agents of these hosts say, as rows: of what was known, where the rows themselves are not."""
    return tuple(
        InstanceRow(Instance(MARKER_SERVICE, host.name, tuple(Address(ip, host.tunnel_port) for ip in host.addresses)), host)
        for host in hosts
        if host.tunnel_port
    )
