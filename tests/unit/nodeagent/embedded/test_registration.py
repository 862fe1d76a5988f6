"""Registrations as clients write them: checked, and turned into our rows."""

import pytest

from nodeagent import limits
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.embedded.registration import (
    NodeRow,
    TaggedAddress,
    Weights,
    check_datacenter,
    parse_agent_service,
    parse_registration,
    parse_removal,
)  # fmt: skip

NODE = {"Node": "host1", "Address": "10.0.0.1"}


def test_host_keeps_what_it_said():
    asked = parse_registration(
        NODE
        | {"TaggedAddresses": {"lan_ipv6": "FD77:0::1"}, "NodeMeta": {"nodeagent": "15008;v1"}, "Datacenter": "dc1"},
        "dc1",
    )
    row = NodeRow("host1", "", "10.0.0.1", {"lan_ipv6": "fd77::1"}, {"nodeagent": "15008;v1"})
    assert (asked.node_row, asked.service_row) == (row, None)
    assert row.ips() == {"10.0.0.1", "fd77::1"}


def test_agent_service_gets_consuls_defaults():
    row = parse_agent_service({"Name": "web", "Port": 80}, "host1")
    assert (row.node, row.id, row.name, row.address, row.weights) == ("host1", "web", "web", "", Weights(1, 1))


def test_agent_service_keeps_what_it_said():
    row = parse_agent_service(
        {
            "Name": "web", "ID": "web-1", "Port": 80, "Address": "::ffff:10.0.0.1", "Tags": ["a"], "Meta": {"k": "v"},
            "Weights": {"Passing": 3, "Warning": 0}, "TaggedAddresses": {"lan_ipv6": {"Address": "fd77::1", "Port": 81}},
            "EnableTagOverride": False, "Check": None, "Kind": "",
        },
        "host1",
    )  # fmt: skip
    assert (row.id, row.address, row.tags, row.meta) == ("web-1", "10.0.0.1", ("a",), {"k": "v"})
    assert (row.weights, row.tagged) == (Weights(3, 0), {"lan_ipv6": TaggedAddress("fd77::1", 81)})
    assert row.ips() == {"10.0.0.1", "fd77::1"}


def test_catalog_registration_may_be_of_the_service_alone():
    asked = parse_registration({"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "web"}}, "dc1")
    assert asked.node_row is None
    assert asked.service_row.id == "web"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"Node": "host1"}, "Address: give the host's IP address"),
        (NODE | {"Node": "a b"}, "Node"),
        (NODE | {"Node": "host1\n"}, "Node"),
        (NODE | {"Address": "host1.example"}, "is not an IP address"),
        (NODE | {"Address": "0.0.0.0"}, "not the address of one host"),
        (NODE | {"Address": "224.0.0.1"}, "not the address of one host"),
        (NODE | {"Address": "169.254.169.254"}, "not the address of one host"),
        (NODE | {"Address": "fe80::1%eth0"}, "not the address of one host"),
        (NODE | {"Address": "255.255.255.255"}, "not the address of one host"),
        (NODE | {"TaggedAddresses": {"lan": "x"}}, r"TaggedAddresses\.lan"),
        (NODE | {"TaggedAddresses": {str(n): "10.0.0.1" for n in range(17)}}, "at most 16 labels"),
        (NODE | {"NodeMeta": {"k": "v" * (limits.META_VALUE_BYTES + 1)}}, "NodeMeta"),
        (NODE | {"NodeMeta": {"k" * (limits.META_KEY_BYTES + 1): "v"}}, "NodeMeta"),
        (NODE | {"NodeMeta": {str(n): "v" for n in range(limits.META_PAIRS + 1)}}, "NodeMeta"),
        (NODE | {"Datacenter": "dc2"}, "no path to datacenter 'dc2'"),
        (NODE | {"Service": {"Service": "web", "Port": -1}}, r"Service\.Port"),
        (NODE | {"Service": {"Service": "web", "Port": 65536}}, r"Service\.Port"),
        (NODE | {"Service": {"Service": "web", "Port": True}}, r"Service\.Port"),
        (NODE | {"Service": {"Service": "wéb"}}, r"Service\.Service"),
        (NODE | {"Service": {"Service": "*"}}, r"Service\.Service"),
        (NODE | {"Service": {"Service": "web", "Tags": ["t"] * (limits.TAGS + 1)}}, r"Service\.Tags"),
        (NODE | {"Service": {"Service": "web", "Weights": {"Passing": 0}}}, r"Service\.Weights\.Passing"),
        (NODE | {"Service": {"Service": "web", "Address": "0.0.0.0"}}, r"Service\.Address"),
    ],
)
def test_a_bad_registration_is_refused_with_its_key(body, sentence):
    with pytest.raises(BadRequest, match=sentence):
        parse_registration(body, "dc1")


@pytest.mark.parametrize(
    "body",
    [
        NODE | {"Service": {"Service": "web", "Proxy": {"x": 1}}},
        NODE | {"Service": {"Service": "web", "Kind": "connect-proxy"}},
        NODE | {"Service": {"Service": "web", "Connect": {"Native": True}}},
        NODE | {"Partition": "p"},
    ],
)
def test_what_this_catalog_has_not_is_refused_aloud(body):
    with pytest.raises(Missing, match="is not implemented"):
        parse_registration(body, "dc1")


def test_an_agents_service_with_checks_is_refused_aloud():
    with pytest.raises(Missing, match="Check is not implemented"):
        parse_agent_service({"Name": "web", "Check": {"TTL": "3s"}}, "host1")


def test_removal_is_of_a_host_or_of_one_service_or_check():
    assert parse_removal({"Node": "host1"}, "dc1").service_id == ""
    assert parse_removal({"Node": "host1", "ServiceID": "web"}, "dc1").service_id == "web"
    assert parse_removal({"Node": "host1", "CheckID": "c"}, "dc1").check_id == "c"


def test_another_datacenter_is_refused():
    check_datacenter("", "dc1")
    check_datacenter("dc1", "dc1")
    with pytest.raises(BadRequest, match="no path to datacenter 'dc2'"):
        check_datacenter("dc2", "dc1")


def test_what_is_as_long_as_it_may_be_is_taken():
    meta = {str(n).rjust(limits.META_KEY_BYTES, "k"): "v" * limits.META_VALUE_BYTES for n in range(limits.META_PAIRS)}
    asked = parse_registration(NODE | {"NodeMeta": meta, "Service": {"Service": "web", "Tags": ["t"] * limits.TAGS}}, "dc1")
    assert (len(asked.node_row.meta), len(asked.service_row.tags)) == (limits.META_PAIRS, limits.TAGS)


@pytest.mark.parametrize("name", ["nodeagent", "consul"])
def test_a_name_that_agents_take_for_something_else_is_refused(name):
    """A service of the first would say which hosts take tunnels, and at which addresses; one of the second nobody would see."""
    with pytest.raises(BadRequest, match=f"^Name: '{name}' is reserved"):
        parse_agent_service({"Name": name, "Port": 15008}, "host1")
    with pytest.raises(BadRequest, match=f"^Service.Service: '{name}' is reserved"):
        parse_registration(NODE | {"Service": {"Service": name}}, "dc1")
