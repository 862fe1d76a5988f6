"""Hosts whose rows Consul's own agents keep, as 1.8.7 shows them."""

import json

from nodeagent.catalog.markers import markers_of, with_markers
from nodeagent.catalog.state import InstanceRow, parse_hosts, parse_instances
from nodeagent.model.service import Host

NODE = {
    "Node": "host1", "Address": "10.77.0.1", "Meta": {"consul-network-segment": ""},
    "TaggedAddresses": {"lan": "10.77.0.1", "lan_ipv4": "10.77.0.1", "wan": "10.77.0.1", "wan_ipv4": "10.77.0.1"},
}  # fmt: skip
AGENT = {
    "ID": "nodeagent", "Service": "nodeagent", "Address": "10.77.0.1", "Port": 15008, "Meta": {"nodeagent": "15008;v1"},
    "TaggedAddresses": {
        "lan_ipv4": {"Address": "10.77.0.1", "Port": 15008}, "lan_ipv6": {"Address": "fd77::1", "Port": 15008},
        "lan_ipv4_2": {"Address": "10.78.0.1", "Port": 15008},
    },
}  # fmt: skip
CRITICAL = [{"Status": "critical", "CheckID": "serfHealth"}]
HOSTS = parse_hosts(json.dumps([NODE, NODE | {"Node": "host2", "Address": "10.77.0.2", "TaggedAddresses": None}]).encode())


def agents(*rows: dict) -> tuple[InstanceRow, ...]:
    return parse_instances("nodeagent", json.dumps(rows).encode())


def test_a_host_is_meshed_at_the_addresses_that_its_agent_names() -> None:
    """Consul knows one of each family; a host that is not healthy is no less meshed."""
    rows = agents({"Node": NODE, "Service": AGENT, "Checks": CRITICAL})
    assert with_markers(HOSTS, rows) == (
        Host("host1", ("10.77.0.1", "10.78.0.1", "fd77::1"), 15008), Host("host2", ("10.77.0.2",), 0),
    )  # fmt: skip


def test_a_service_of_that_name_without_the_mark_is_no_agent() -> None:
    for meta in (None, {}, {"nodeagent": "15008;v2"}, {"nodeagent": ""}):
        assert with_markers(HOSTS, agents({"Node": NODE, "Service": AGENT | {"Meta": meta}})) == HOSTS


def test_nobody_takes_another_hosts_own_address() -> None:
    """Whoever may register a service could claim it; addresses that nobody has are the agent's word."""
    claims = AGENT | {"TaggedAddresses": {"lan_ipv4": {"Address": "10.77.0.2", "Port": 15008}, "lan_ipv4_2": {"Address": "10.9.9.9"}}}
    host1, host2 = with_markers(HOSTS, agents({"Node": NODE, "Service": claims}))
    assert (host1.addresses, host2.addresses) == (("10.77.0.1", "10.9.9.9"), ("10.77.0.2",))


def test_a_marker_in_the_node_s_own_meta_counts_as_ever() -> None:
    """The embedded catalog keeps it, and so does a Consul agent whose configuration has it."""
    hosts = (Host("host1", ("10.77.0.1",), 15008),)
    assert with_markers(hosts, ()) == hosts
    assert with_markers(hosts, agents({"Node": NODE, "Service": AGENT | {"Meta": None}})) == hosts


def test_a_host_that_only_its_agent_shows_is_there() -> None:
    """The lists of hosts and of agents come one after the other: it must not be called in clear meanwhile."""
    assert with_markers((), agents({"Node": NODE, "Service": AGENT})) == (Host("host1", ("10.77.0.1", "10.78.0.1", "fd77::1"), 15008),)


def test_what_was_known_of_the_agents_can_be_said_again_as_rows() -> None:
    known = (Host("host1", ("10.77.0.1", "fd77::1"), 15008), Host("host2", ("10.77.0.2",), 0))
    (row,) = markers_of(known)
    assert (row.instance.id, row.host) == ("nodeagent", known[0])
    assert with_markers(HOSTS, markers_of(known))[0] == known[0]
