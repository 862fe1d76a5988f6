"""This host's own row."""

import msgspec
from msgspec.structs import replace

from nodeagent.catalog.compiler import capture_of, compile_snapshot
from nodeagent.catalog.state import CatalogState, parse_hosts, parse_instances
from nodeagent.control.registration import is_marked, is_registered, marker_of, registration_of
from nodeagent.decide.route import ToService, find_destination
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.service import Host
from tests.support.mesh import HOST1, HOST2, config


def test_the_row_has_both_addresses_and_the_marker() -> None:
    assert registration_of(config()) == {
        "Datacenter": "dc1",
        "Node": "host1",
        "Address": "10.77.0.1",
        "TaggedAddresses": {"lan_ipv4": "10.77.0.1", "lan_ipv6": "fd77::1"},
        "NodeMeta": {"nodeagent": "15008;v1"},
    }


def test_what_was_registered_is_recognized_when_it_is_read_back() -> None:
    row = registration_of(config())
    answer = msgspec.json.encode([{**row, "Meta": row["NodeMeta"]}])
    assert is_registered(config(), parse_hosts(answer))


MANY = replace(config(), host=replace(config().host, addresses=("10.77.0.1", "10.78.0.1", "fd77::1", "fd78::1", "fd79::1")))


def test_every_address_is_registered_and_read_back() -> None:
    row = registration_of(MANY)
    assert row["TaggedAddresses"] == {
        "lan_ipv4": "10.77.0.1", "lan_ipv4_2": "10.78.0.1",
        "lan_ipv6": "fd77::1", "lan_ipv6_2": "fd78::1", "lan_ipv6_3": "fd79::1",
    }  # fmt: skip
    (host,) = parse_hosts(msgspec.json.encode([{**row, "Meta": row["NodeMeta"]}]))
    assert host.addresses == MANY.host.addresses
    assert is_registered(MANY, (host,))
    assert not is_registered(MANY, (Host("host1", host.addresses[:-1], 15008),))


def test_a_caller_on_another_host_reaches_a_service_at_the_second_address() -> None:
    row = registration_of(MANY)
    (host,) = parse_hosts(msgspec.json.encode([{**row, "Meta": row["NodeMeta"]}]))
    health = {"Node": {**row, "Meta": row["NodeMeta"]}, "Service": {"ID": "db", "Port": 5432}, "Checks": []}
    seen = CatalogState((host, HOST2), {"db": parse_instances("db", msgspec.json.encode([health]))})
    caller = replace(config(), host=replace(config().host, name="host2", addresses=HOST2.addresses))
    snapshot = compile_snapshot(seen, caller, trust_domain="t", generation=1)
    for ip in MANY.host.addresses:
        found = find_destination(snapshot, OriginalDst(Address(ip, 5432)), dst_is_local=False)
        assert isinstance(found, ToService)
        assert (found.service.name, found.host and found.host.name) == ("db", "host1")
        assert ip in capture_of(snapshot).addresses


def test_a_consul_agent_is_told_every_address_and_shows_it() -> None:
    """As a service, whose tagged addresses take any label, where a Consul node has one address of a family."""
    body = marker_of(MANY)
    shown = {"Node": {"Node": "host1", "Address": "10.77.0.1"}, "Service": {**body, "Service": "nodeagent"}, "Checks": []}
    rows = parse_instances("nodeagent", msgspec.json.encode([shown]))
    assert rows[0].host.addresses == MANY.host.addresses
    assert is_marked(MANY, rows)
    assert not is_marked(config(), rows)
    assert not is_marked(MANY, ())
    unmarked = {**shown, "Service": {**body, "Meta": {}}}
    assert not is_marked(MANY, parse_instances("nodeagent", msgspec.json.encode([unmarked])))


def test_a_missing_marker_or_address_or_host_is_not_registered() -> None:
    assert is_registered(config(), (HOST1, HOST2))
    assert not is_registered(config(), (HOST2,))
    assert not is_registered(config(), (Host("host1", HOST1.addresses, 0),))
    assert not is_registered(config(), (Host("host1", ("10.77.0.1",), 15008),))
