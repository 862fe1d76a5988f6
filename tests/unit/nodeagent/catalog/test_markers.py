"""Hosts whose rows Consul's own agents keep, as 1.8.7 shows them."""

import itertools
import json

from nodeagent import limits
from nodeagent.catalog.markers import Claim, Marked, claims_alarm, markers_of, with_markers
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
    assert with_markers(HOSTS, rows).hosts == (
        Host("host1", ("10.77.0.1", "10.78.0.1", "fd77::1"), 15008), Host("host2", ("10.77.0.2",), 0),
    )  # fmt: skip


def test_a_service_of_that_name_without_the_mark_is_no_agent() -> None:
    for meta in (None, {}, {"nodeagent": "15008;v2"}, {"nodeagent": ""}):
        assert with_markers(HOSTS, agents({"Node": NODE, "Service": AGENT | {"Meta": meta}})).hosts == HOSTS


def test_nobody_takes_another_hosts_own_address() -> None:
    """Whoever may register a service could claim it; addresses that nobody has are the agent's word."""
    claims = AGENT | {"TaggedAddresses": {"lan_ipv4": {"Address": "10.77.0.2", "Port": 15008}, "lan_ipv4_2": {"Address": "10.9.9.9"}}}
    host1, host2 = with_markers(HOSTS, agents({"Node": NODE, "Service": claims})).hosts
    assert (host1.addresses, host2.addresses) == (("10.77.0.1", "10.9.9.9"), ("10.77.0.2",))


def test_a_marker_in_the_node_s_own_meta_counts_as_ever() -> None:
    """The embedded catalog keeps it, and so does a Consul agent whose configuration has it."""
    hosts = (Host("host1", ("10.77.0.1",), 15008),)
    assert with_markers(hosts, ()).hosts == hosts
    assert with_markers(hosts, agents({"Node": NODE, "Service": AGENT | {"Meta": None}})).hosts == hosts


def test_a_host_that_only_its_agent_shows_is_there() -> None:
    """The lists of hosts and of agents come one after the other: it must not be called in clear meanwhile."""
    assert with_markers((), agents({"Node": NODE, "Service": AGENT})).hosts == (Host("host1", ("10.77.0.1", "10.78.0.1", "fd77::1"), 15008),)


def test_what_was_known_of_the_agents_can_be_said_again_as_rows() -> None:
    known = (Host("host1", ("10.77.0.1", "fd77::1"), 15008), Host("host2", ("10.77.0.2",), 0))
    (row,) = markers_of(known)
    assert (row.instance.id, row.host) == ("nodeagent", known[0])
    assert with_markers(HOSTS, markers_of(known)).hosts[0] == known[0]


def claims(host: str, at: int, *ips: str) -> InstanceRow:
    """As the agent of `host` said at this index; it has no row of its own."""
    (row,) = markers_of([Host(host, ips, 15008)])
    return InstanceRow(row.instance, row.host, at)


def addresses(marked: Marked) -> dict[str, tuple[str, ...]]:
    return {host.name: host.addresses for host in marked.hosts}


def test_of_two_agents_the_one_that_said_it_first_has_the_address() -> None:
    """Whatever their names, and the order in which they are shown."""
    for rows in itertools.permutations((claims("web", 13, "10.9.9.9"), claims("evil", 17, "10.9.9.9", "10.8.8.8"))):
        marked = with_markers((), rows)
        assert addresses(marked) == {"web": ("10.9.9.9",), "evil": ("10.8.8.8",)}
        assert marked.refused == (Claim("10.9.9.9", "evil", "web"),)


def test_a_registration_that_is_changed_is_a_new_word() -> None:
    """As 1.8.7 counts: its CreateIndex stays, so the older of two hosts could take the younger one's address by that."""
    evil = AGENT | {"Address": "10.9.9.9", "TaggedAddresses": None, "CreateIndex": 13, "ModifyIndex": 30}
    web = evil | {"CreateIndex": 20, "ModifyIndex": 20}
    nodes = [NODE | {"Node": name, "Address": "", "TaggedAddresses": None} for name in ("evil", "web")]
    marked = with_markers((), agents({"Node": nodes[0], "Service": evil}, {"Node": nodes[1], "Service": web}))
    assert addresses(marked) == {"web": ("10.9.9.9",), "evil": ()}


def test_no_host_has_more_addresses_by_its_word_than_one_host_may() -> None:
    many = tuple(f"10.9.9.{n}" for n in range(10, 10 + limits.HOST_ADDRESSES + 2))
    marked = with_markers((Host("web", ("10.77.0.1",), 0),), (claims("web", 1, *many),))
    assert len(addresses(marked)["web"]) == limits.HOST_ADDRESSES
    assert [claim.ip for claim in marked.refused] == list(many[-3:])


def test_what_is_refused_is_said_in_one_sentence() -> None:
    assert claims_alarm(()) == ""
    taken, beyond = Claim("10.9.9.9", "evil", "web"), Claim("10.9.9.8", "evil", "")
    assert claims_alarm((taken,)) == "evil claims 10.9.9.9 by its service nodeagent, and is not believed: web has it"
    assert claims_alarm((beyond, taken)).endswith("that are more than 16 of one host; so are 1 more")
