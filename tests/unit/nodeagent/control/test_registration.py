"""This host's own row."""

from nodeagent.catalog.state import parse_hosts
from nodeagent.control.registration import is_registered, registration_of
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
    import msgspec

    row = registration_of(config())
    answer = msgspec.json.encode([{**row, "Meta": row["NodeMeta"]}])
    assert is_registered(config(), parse_hosts(answer))


def test_a_missing_marker_or_address_or_host_is_not_registered() -> None:
    assert is_registered(config(), (HOST1, HOST2))
    assert not is_registered(config(), (HOST2,))
    assert not is_registered(config(), (Host("host1", HOST1.addresses, 0),))
    assert not is_registered(config(), (Host("host1", ("10.77.0.1",), 15008),))
