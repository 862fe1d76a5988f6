"""Which hosts take tunnels where Consul's own agents keep the hosts' rows: a service of each host that says so; pure.

A host's node meta is its Consul agent's, which takes back what others write of it. What the agent was told itself it keeps.
"""

from collections.abc import Iterable

from nodeagent.catalog.state import MARKER_SERVICE, InstanceRow
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance


def with_markers(hosts: Iterable[Host], rows: Iterable[InstanceRow]) -> tuple[Host, ...]:
    """The hosts with what their agents say, by name. rows: of the service MARKER_SERVICE.

    An agent names the addresses at which its host is in the mesh, as Consul knows one of each family. One that another host
    has by its own row stays that host's: whoever may register a service could claim it.
    """
    listed = {host.name: host for host in hosts}
    owner = {ip: host.name for host in listed.values() for ip in host.addresses}
    for row in rows:
        said = row.host
        if not said.tunnel_port:
            continue
        before = listed.get(said.name, Host(said.name, (), 0))
        own = {ip for ip in said.addresses if owner.get(ip, said.name) == said.name}
        addresses = tuple(sorted(own | set(before.addresses), key=lambda ip: (":" in ip, ip)))
        listed[said.name] = Host(said.name, addresses, said.tunnel_port)
    return tuple(listed[name] for name in sorted(listed))


def markers_of(hosts: Iterable[Host]) -> tuple[InstanceRow, ...]:
    """What the agents of these hosts say, as rows: of what was known, where the rows themselves are not."""
    return tuple(
        InstanceRow(Instance(MARKER_SERVICE, host.name, tuple(Address(ip, host.tunnel_port) for ip in host.addresses)), host)
        for host in hosts
        if host.tunnel_port
    )
