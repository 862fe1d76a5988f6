"""Keys in other spellings than Consul's documents."""

import pytest

from nodeagent import limits
from nodeagent.embedded.entries import normal_entry
from nodeagent.embedded.keys import fold_keys
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.registration import Removal, parse_agent_service, parse_registration
from nodeagent.embedded.tokens_api import TokenRequest


def test_the_keys_of_an_old_client_are_understood():
    """py-consul writes them small, and one with an underscore."""
    body = {
        "node": "host1", "address": "10.0.0.1", "datacenter": "dc1",
        "service": {"service": "web", "id": "web1", "port": 80, "weights": {"passing": 3, "warning": 1}},
    }  # fmt: skip
    asked = parse_registration(body, "dc1")
    assert asked.node_row.address == "10.0.0.1"
    assert (asked.service_row.id, asked.service_row.weights.passing) == ("web1", 3)
    row = parse_agent_service({"name": "web", "tagged_addresses": {"lan_ipv4": {"address": "10.0.0.1", "port": 8}}}, "host1")
    assert row.tagged["lan_ipv4"].port == 8


def test_keys_of_free_tables_are_left_alone():
    row = parse_agent_service({"name": "web", "meta": {"Name": "x", "na_me": "y"}}, "host1")
    assert row.meta == {"Name": "x", "na_me": "y"}


def test_what_is_not_served_is_known_in_any_spelling():
    assert {"Checks": 1, "Node": "x"} == fold_keys({"checks": 1, "NODE": "x"}, Removal, ("Checks",))


def test_lists_and_optional_shapes_are_looked_into():
    folded = fold_keys({"nodeidentities": [{"nodename": "host1"}]}, TokenRequest)
    assert folded == {"NodeIdentities": [{"NodeName": "host1"}]}


def test_two_spellings_of_one_key_are_refused():
    with pytest.raises(BadRequest, match="'Node' stands twice"):
        fold_keys({"node": "a", "Node": "b"}, Removal)


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"Node": []}, {"Node": {"x": 1}}])
def test_whatever_does_not_fit_is_left_to_the_shape(value):
    assert fold_keys(value, Removal) == value


def test_config_entries_are_kept_as_they_were_written():
    entry = {"Kind": "service-defaults", "Name": "web", "Meta": {"kind": "x"}}
    assert normal_entry(entry) == entry


@pytest.mark.parametrize("body", [
    {f"k{n}": 1 for n in range(limits.BODY_ITEMS + 1)},
    {"Node": "a", "NodeMeta": {f"k{n}": "" for n in range(limits.BODY_ITEMS + 1)}},
    {"Node": "a", "Service": {"Service": "a", "Tags": ["x"] * (limits.BODY_ITEMS + 1)}},
])  # fmt: skip
def test_a_body_of_very_many_values_is_refused_before_they_are_looked_at(body):
    with pytest.raises(BadRequest, match=f"values in one place, and may have {limits.BODY_ITEMS}"):
        parse_registration(body, "dc1")
