"""What every catalog must do over HTTP: the same suite for the embedded one and for Consul 1.8.7, with and without ACLs.

The fixtures are those of tests/e2e/support/catalogs.py; test_catalog_parameters.py asks for every endpoint and parameter.
"""

import base64

import pytest

from certs.bundle import TrustBundle
from nodeagent.catalog.inventory import InventoryReader
from nodeagent.catalog.state import parse_instances
from tests.e2e.support.catalogs import NAMES, Asking, register

ROUND_S = 2.0  # of a blocking query that is to time out


# --- hosts and services --------------------------------------------------------------------------------------------


def test_a_registered_instance_is_found_with_its_host(catalog, name):
    register(
        catalog, name, port=8080, Tags=["blue"], Meta={"k": "v"}, Weights={"Passing": 3, "Warning": 1},
        TaggedAddresses={"lan_ipv4": {"Address": "10.0.0.1", "Port": 8080}},
    )  # fmt: skip
    (row,) = catalog.ok("GET", f"/v1/health/service/{name}?passing")
    assert (row["Node"]["Node"], row["Node"]["Address"]) == ("host1", "10.0.0.1")
    service = row["Service"]
    assert (service["Service"], service["Port"], service["Tags"], service["Meta"]) == (name, 8080, ["blue"], {"k": "v"})
    assert service["Weights"] == {"Passing": 3, "Warning": 1}
    assert service["TaggedAddresses"]["lan_ipv4"] == {"Address": "10.0.0.1", "Port": 8080}
    (flat,) = catalog.ok("GET", f"/v1/catalog/service/{name}")
    assert (flat["Node"], flat["ServiceID"], flat["ServicePort"], flat["ServiceAddress"]) == ("host1", name, 8080, "")
    assert catalog.ok("GET", "/v1/catalog/services")[name] == ["blue"]
    assert catalog.ok("GET", "/v1/catalog/node/host1")["Services"][name]["Port"] == 8080
    assert name in [s["ID"] for s in catalog.ok("GET", "/v1/catalog/node-services/host1")["Services"]]


def test_a_host_keeps_its_addresses_and_meta(catalog):
    body = {
        "Node": "host3", "Address": "10.0.0.3", "TaggedAddresses": {"lan_ipv4": "10.0.0.3", "lan_ipv6": "fd77::3"},
        "NodeMeta": {"nodeagent": "15008;v1"},
    }  # fmt: skip
    catalog.ok("PUT", "/v1/catalog/register", body)
    found = {node["Node"]: node for node in catalog.ok("GET", "/v1/catalog/nodes")}["host3"]
    assert (found["Address"], found["Meta"]) == ("10.0.0.3", {"nodeagent": "15008;v1"})
    assert found["TaggedAddresses"]["lan_ipv6"] == "fd77::3"
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "host3"})
    assert "host3" not in {node["Node"] for node in catalog.ok("GET", "/v1/catalog/nodes")}


def test_one_answer_has_all_hosts_with_what_their_own_answers_say(catalog, name):
    """Agents take it for the services that are too many to be watched: what it says must be the same, and each change must end a wait."""
    register(catalog, name, "host1", Address="10.9.9.9", Meta={"k": "v"}, Weights={"Passing": 3, "Warning": 1})
    register(catalog, name, "host2", TaggedAddresses={"lan_ipv4": {"Address": "10.0.0.9", "Port": 81}})
    told = catalog.get("/v1/internal/ui/nodes")
    own = parse_instances(name, catalog.get(f"/v1/health/service/{name}").text.encode())
    assert len(own) == 2
    assert InventoryReader().read(told.text.encode()).instances[name] == own
    asking = Asking(lambda: catalog.get(f"/v1/internal/ui/nodes?index={told.index}&wait=50s"))
    register(catalog, name, "host1", port=8080)
    assert asking.answer().index > told.index
    later = InventoryReader().read(catalog.get("/v1/internal/ui/nodes").text.encode()).instances[name]
    assert ([address.port for address in later[0].instance.addresses], later[1]) == ([8080], own[1])


def test_an_instance_goes_and_the_other_stays(catalog, name):
    register(catalog, name, "host1")
    register(catalog, name, "host2")
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "host1", "ServiceID": name})
    assert [row["Node"]["Node"] for row in catalog.ok("GET", f"/v1/health/service/{name}")] == ["host2"]


def test_an_unknown_service_is_an_empty_list_with_an_index(catalog, name):
    answer = catalog.get(f"/v1/health/service/{name}")
    assert (answer.status, answer.json) == (200, [])
    assert answer.index >= 1


def test_a_host_in_maintenance_fails_a_check_until_it_is_back(newer, name):
    register(newer, name, "host1")
    before = newer.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: newer.get(f"/v1/health/service/{name}?index={before.index}&wait=50s"))
    newer.ok("PUT", "/v1/agent/maintenance?enable=true&reason=disk&node=host1")
    (row,) = asking.answer().json
    assert [(c["CheckID"], c["Status"], c["Notes"]) for c in row["Checks"]] == [("_node_maintenance", "critical", "disk")]
    assert newer.ok("GET", f"/v1/health/service/{name}?passing") == []
    assert [c["CheckID"] for c in newer.ok("GET", "/v1/health/node/host1")] == ["_node_maintenance"]
    newer.ok("PUT", "/v1/agent/maintenance?enable=false&node=host1")
    assert len(newer.ok("GET", f"/v1/health/service/{name}?passing")) == 1


# --- blocking queries ----------------------------------------------------------------------------------------------


def test_a_change_ends_a_blocking_query_early(catalog, name):
    register(catalog, name)
    before = catalog.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: catalog.get(f"/v1/health/service/{name}?index={before.index}&wait=50s"))
    register(catalog, name, port=81)
    answer = asking.answer()
    assert answer.index > before.index
    assert answer.json[0]["Service"]["Port"] == 81
    assert asking.seconds < 50


def test_a_first_registration_ends_a_query_for_what_is_not_there(catalog, name):
    before = catalog.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: catalog.get(f"/v1/health/service/{name}?index={before.index}&wait=50s"))
    register(catalog, name)
    assert len(asking.answer().json) == 1


def test_a_removal_ends_a_query_and_the_index_goes_on(catalog, name):
    register(catalog, name)
    before = catalog.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: catalog.get(f"/v1/health/service/{name}?index={before.index}&wait=50s"))
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "host1", "ServiceID": name})
    answer = asking.answer()
    assert answer.json == []
    assert answer.index > before.index


def test_a_change_of_another_service_ends_no_query(catalog, name):
    register(catalog, name)
    before = catalog.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: catalog.get(f"/v1/health/service/{name}?index={before.index}&wait={ROUND_S:g}s"))
    register(catalog, next(NAMES))
    answer = asking.answer()
    assert asking.seconds >= ROUND_S
    assert (answer.index, answer.json) == (before.index, before.json)


def test_a_change_of_the_host_ends_the_queries_for_its_services(catalog, name):
    catalog.ok("PUT", "/v1/catalog/register", {"Node": "host4", "Address": "10.0.0.4"})
    register(catalog, name, "host4")
    before = catalog.get(f"/v1/health/service/{name}")
    asking = Asking(lambda: catalog.get(f"/v1/health/service/{name}?index={before.index}&wait=50s"))
    catalog.ok("PUT", "/v1/catalog/register", {"Node": "host4", "Address": "10.0.0.44"})
    assert asking.answer().json[0]["Node"]["Address"] == "10.0.0.44"
    catalog.ok("PUT", "/v1/catalog/deregister", {"Node": "host4"})


def test_an_old_index_answers_at_once_and_headers_say_there_is_a_leader(catalog, name):
    register(catalog, name)
    answer = catalog.get("/v1/catalog/nodes?index=1&wait=50s")
    headers = {key.lower(): value for key, value in answer.headers.items()}
    assert headers["x-consul-knownleader"] == "true"
    assert int(headers["x-consul-lastcontact"]) == 0


def test_the_same_registration_again_moves_no_index(catalog, name):
    register(catalog, name)
    before = catalog.get(f"/v1/health/service/{name}").index
    register(catalog, name)
    assert catalog.get(f"/v1/health/service/{name}").index == before


@pytest.mark.parametrize("query", ["index=x", "index=1&wait=soon"])
def test_a_bad_query_is_400(catalog, query):
    assert catalog.get(f"/v1/catalog/nodes?{query}").status == 400


# --- config entries ------------------------------------------------------------------------------------------------


def test_config_entries_are_kept_listed_and_removed(catalog, name):
    entry = {"Kind": "service-defaults", "Name": name, "Protocol": "http"}
    assert catalog.ok("PUT", "/v1/config", entry) is True
    assert catalog.ok("GET", f"/v1/config/service-defaults/{name}")["Protocol"] == "http"
    assert name in [row["Name"] for row in catalog.ok("GET", "/v1/config/service-defaults")]
    assert catalog.delete(f"/v1/config/service-defaults/{name}").status == 200
    assert catalog.get(f"/v1/config/service-defaults/{name}").status == 404


def test_compare_and_set_of_config_entries(catalog, name):
    entry = {"Kind": "service-defaults", "Name": name, "Protocol": "http"}
    assert catalog.ok("PUT", "/v1/config?cas=0", entry) is True
    assert catalog.ok("PUT", "/v1/config?cas=0", entry | {"Protocol": "grpc"}) is False
    index = catalog.ok("GET", f"/v1/config/service-defaults/{name}")["ModifyIndex"]
    assert catalog.ok("PUT", f"/v1/config?cas={index}", entry | {"Protocol": "grpc"}) is True
    assert catalog.ok("GET", f"/v1/config/service-defaults/{name}")["Protocol"] == "grpc"


def test_a_changed_entry_ends_the_query_for_its_kind(newer, name):
    before = newer.get("/v1/config/service-intentions")
    asking = Asking(lambda: newer.get(f"/v1/config/service-intentions?index={before.index}&wait=50s"))
    entry = {"Kind": "service-intentions", "Name": name, "Sources": [{"Name": "shop", "Action": "allow"}]}
    newer.ok("PUT", "/v1/config", entry)
    found = {row["Name"]: row for row in asking.answer().json}[name]
    assert (found["Sources"][0]["Name"], found["Sources"][0]["Precedence"]) == ("shop", 9)


def test_an_unknown_kind_is_400(catalog):
    assert catalog.put("/v1/config", {"Kind": "nonsense", "Name": "x"}).status == 400


# --- intentions ----------------------------------------------------------------------------------------------------


def decide(catalog, source, destination):
    return catalog.ok("GET", f"/v1/connect/intentions/check?source={source}&destination={destination}")["Allowed"]


def test_intentions_pair_by_pair(newer, name):
    exact = f"/v1/connect/intentions/exact?source=shop&destination={name}"
    assert newer.get(exact).status == 404
    assert decide(newer, "shop", name) is False
    assert newer.ok("PUT", exact, {"SourceType": "consul", "Action": "allow"}) is True
    assert decide(newer, "shop", name) is True
    assert decide(newer, "other", name) is False
    found = newer.ok("GET", exact)
    assert (found["SourceName"], found["DestinationName"], found["Action"], found["Precedence"]) == (
        "shop",
        name,
        "allow",
        9,
    )
    assert newer.delete(exact).status == 200
    assert decide(newer, "shop", name) is False
    assert newer.get(f"/v1/config/service-intentions/{name}").status == 404


def test_the_most_specific_intention_decides(newer, name):
    exact = "/v1/connect/intentions/exact"
    newer.ok("PUT", f"{exact}?source=*&destination={name}", {"Action": "allow"})
    newer.ok("PUT", f"{exact}?source=cron&destination={name}", {"Action": "deny"})
    assert (decide(newer, "shop", name), decide(newer, "cron", name)) == (True, False)
    rows = newer.ok("GET", f"/v1/connect/intentions/match?by=destination&name={name}")[name]
    assert [(row["SourceName"], row["Precedence"]) for row in rows] == [("cron", 9), ("*", 8)]
    assert {row["DestinationName"] for row in newer.ok("GET", "/v1/connect/intentions")} >= {name}


# --- KV ------------------------------------------------------------------------------------------------------------


def test_values_are_kept_listed_and_removed(catalog, name):
    assert catalog.ok("PUT", f"/v1/kv/{name}/a/1?flags=7", b"\x00\xffone") is True
    catalog.ok("PUT", f"/v1/kv/{name}/b", b"two")
    (row,) = catalog.ok("GET", f"/v1/kv/{name}/a/1")
    assert (base64.b64decode(row["Value"]), row["Flags"]) == (b"\x00\xffone", 7)
    assert catalog.get(f"/v1/kv/{name}/b?raw").text == "two"
    assert [row["Key"] for row in catalog.ok("GET", f"/v1/kv/{name}/?recurse")] == [f"{name}/a/1", f"{name}/b"]
    assert catalog.ok("GET", f"/v1/kv/{name}/?keys&separator=/") == [f"{name}/a/", f"{name}/b"]
    assert catalog.ok("DELETE", f"/v1/kv/{name}/?recurse") is True
    assert catalog.get(f"/v1/kv/{name}/b").status == 404


def test_compare_and_set_of_values(catalog, name):
    assert catalog.ok("PUT", f"/v1/kv/{name}?cas=0", b"1") is True
    assert catalog.ok("PUT", f"/v1/kv/{name}?cas=0", b"2") is False
    index = catalog.ok("GET", f"/v1/kv/{name}")[0]["ModifyIndex"]
    assert catalog.ok("PUT", f"/v1/kv/{name}?cas={index}", b"2") is True


@pytest.mark.parametrize("watched", ["{}/a", "{}/?recurse=1"])
def test_a_changed_value_ends_queries_for_it_and_for_what_is_above(catalog, name, watched):
    path = f"/v1/kv/{watched.format(name)}"
    before = catalog.get(path)
    sign = "&" if "?" in path else "?"
    asking = Asking(lambda: catalog.get(f"{path}{sign}index={before.index}&wait=50s"))
    catalog.ok("PUT", f"/v1/kv/{name}/a", b"1")
    assert asking.answer().json[0]["Key"] == f"{name}/a"


# --- CA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/connect/ca/roots", "/v1/agent/connect/ca/roots"])
def test_roots_make_a_trust_bundle(catalog, path):
    roots = catalog.ok("GET", path)
    bundle = TrustBundle(roots["TrustDomain"], tuple(root["RootCert"] for root in roots["Roots"]))
    assert bundle.trust_domain.endswith(".consul")
    assert roots["ActiveRootID"] in [root["ID"] for root in roots["Roots"] if root["Active"]]


def test_the_agent_tells_its_datacenter(catalog):
    assert catalog.ok("GET", "/v1/agent/self")["Config"]["Datacenter"] == "dc1"


def test_the_leader_is_told(catalog):
    assert ":" in catalog.ok("GET", "/v1/status/leader")
