"""This host's own row in the catalog: its addresses, and the marker that says that it takes tunnels."""

import ipaddress

from nodeagent import limits
from nodeagent.catalog.state import MARKER, MARKER_SERVICE, InstanceRow
from nodeagent.config import Config
from nodeagent.model.address import canonical_ip
from nodeagent.model.service import Host


def registration_of(config: Config) -> dict[str, object]:
    """The body for `/v1/catalog/register`."""
    addresses = [canonical_ip(ip) for ip in config.host.addresses]
    return {
        "Datacenter": config.host.datacenter,
        "Node": config.host.name,
        "Address": addresses[0],
        "TaggedAddresses": _tagged(addresses),
        "NodeMeta": {MARKER: f"{limits.TUNNEL_PORT};v1"},
    }


def marker_of(config: Config) -> dict[str, object]:
    """The body for `/v1/agent/service/register` of a Consul agent, which keeps the host's row itself."""
    addresses = [canonical_ip(ip) for ip in config.host.addresses]
    tagged = {label: {"Address": ip, "Port": limits.TUNNEL_PORT} for label, ip in _tagged(addresses).items()}
    return {
        "ID": MARKER_SERVICE, "Name": MARKER_SERVICE, "Address": addresses[0], "Port": limits.TUNNEL_PORT,
        "Meta": {MARKER: f"{limits.TUNNEL_PORT};v1"}, "TaggedAddresses": tagged,
    }  # fmt: skip


def is_marked(config: Config, rows: tuple[InstanceRow, ...]) -> bool:
    """Whether one of the agents is this host's, as it is. rows: of MARKER_SERVICE."""
    wanted = {canonical_ip(ip) for ip in config.host.addresses}
    return any(
        row.host.name == config.host.name
        and row.host.tunnel_port == limits.TUNNEL_PORT
        and {address.ip for address in row.instance.addresses} == wanted
        for row in rows
    )


def _tagged(addresses: list[str]) -> dict[str, str]:
    """Each address by label: Consul's own for the first of a family, ours (`lan_ipv4_2`) for those that follow."""
    tagged = {}
    for version in (4, 6):
        found = [ip for ip in addresses if ipaddress.ip_address(ip).version == version]
        for number, ip in enumerate(found, 1):
            tagged[f"lan_ipv{version}" + (f"_{number}" if number > 1 else "")] = ip
    return tagged


def is_registered(config: Config, hosts: tuple[Host, ...]) -> bool:
    """Whether the catalog shows this host as it is."""
    body = registration_of(config)
    tagged = body["TaggedAddresses"]
    assert isinstance(tagged, dict)
    wanted = {str(body["Address"]), *map(str, tagged.values())}
    return any(
        host.name == config.host.name
        and host.tunnel_port == limits.TUNNEL_PORT
        and {canonical_ip(ip) for ip in host.addresses} == wanted
        for host in hosts
    )
