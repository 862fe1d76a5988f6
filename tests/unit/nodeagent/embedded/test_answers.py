"""Rows in Consul's words."""

import msgspec

from nodeagent.embedded.answers import flat_json, health_json, node_json, service_json
from nodeagent.embedded.database import Stored
from nodeagent.embedded.registration import NodeRow, ServiceRow, TaggedAddress, Weights

NODE = Stored(NodeRow("host1", "id", "10.0.0.1", {"lan_ipv6": "fd::1"}, {"k": "v"}), 3, 4)
SERVICE = Stored(
    ServiceRow("host1", "web-1", "web", 80, "", ("a",), {"m": "n"}, Weights(2, 1), {"lan_ipv4": TaggedAddress("10.0.0.1", 80)}),
    5, 6,
)  # fmt: skip


def plain(value):
    return msgspec.json.decode(msgspec.json.encode(value))


def test_node():
    assert plain(node_json(NODE, "dc1")) == {
        "ID": "id", "Node": "host1", "Address": "10.0.0.1", "Datacenter": "dc1", "TaggedAddresses": {"lan_ipv6": "fd::1"},
        "Meta": {"k": "v"}, "CreateIndex": 3, "ModifyIndex": 4,
    }  # fmt: skip


def test_service():
    assert plain(service_json(SERVICE)) == {
        "ID": "web-1", "Service": "web", "Tags": ["a"], "Address": "", "Port": 80, "Meta": {"m": "n"},
        "TaggedAddresses": {"lan_ipv4": {"Address": "10.0.0.1", "Port": 80}}, "Weights": {"Passing": 2, "Warning": 1},
        "EnableTagOverride": False, "CreateIndex": 5, "ModifyIndex": 6,
    }  # fmt: skip


def test_health_has_node_service_and_checks():
    shown = plain(health_json(NODE, SERVICE, [{"CheckID": "x"}], "dc1"))
    assert (shown["Node"]["Node"], shown["Service"]["ID"], shown["Checks"]) == ("host1", "web-1", [{"CheckID": "x"}])


def test_flat_has_both_on_one_level():
    shown = plain(flat_json(NODE, SERVICE, "dc1"))
    assert (shown["Node"], shown["Address"], shown["ServiceID"], shown["ServicePort"]) == (
        "host1",
        "10.0.0.1",
        "web-1",
        80,
    )
    assert (shown["ServiceWeights"], shown["ModifyIndex"]) == ({"Passing": 2, "Warning": 1}, 6)
