"""Agents read some services by one answer of all, and some by each one's own: both must say the same, of either catalog."""

import contextlib
import gzip
import http.client
import json

import pytest

from nodeagent import limits
from nodeagent.catalog.inventory import INVENTORY, InventoryReader
from nodeagent.catalog.state import parse_instances, parse_service_names
from nodeagent.control.gzipped import unpacked
from tests.e2e.catalog_process import ANSWER_S
from tests.e2e.support.catalogs import embedded
from tests.e2e.support.consul import Consul

HOST2 = {"Node": "host2", "Address": "10.0.0.2"}


@pytest.fixture(scope="module", params=["embedded", "consul-dev", "consul-deny"])
def catalog(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "embedded":
        with embedded(directory) as client:
            yield client
    else:
        with Consul(directory, acl=request.param == "consul-deny", node="host1") as consul:
            yield consul.client()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """What the embedded catalog refuses to keep, or does not know."""
    with Consul(tmp_path_factory.mktemp("real"), node="host1") as consul:
        yield consul.client()


def register(catalog, service, *checks, host=HOST2, **more):
    service = {"Service": service["ID"].partition("-")[0], "Port": 80, **service}
    catalog.ok("PUT", "/v1/catalog/register", {**host, **more, "Service": service})
    for number, (status, service_id) in enumerate(checks):
        check = {"CheckID": f"{service['ID']}:{number}", "Name": "c", "Status": status, "ServiceID": service_id}
        catalog.ok("PUT", "/v1/catalog/register", {"Node": host["Node"], "SkipNodeUpdate": True, "Check": check})


def instances(catalog):
    """By service, by each one's own answer; the one of all says the same."""
    told = InventoryReader().read(catalog.get(INVENTORY).text.encode())
    names = [name for name in parse_service_names(catalog.get("/v1/catalog/services").text.encode()) if name != "nodeagent"]
    own = {name: parse_instances(name, catalog.get(f"/v1/health/service/{name}").text.encode()) for name in names}
    assert {name: told.instances.get(name, ()) for name in names} == own
    assert told.refused == {}
    return {name: [row.instance for row in rows] for name, rows in own.items()}


def test_addresses_ports_and_weights(catalog):
    register(catalog, {"ID": "plain-1"})
    register(catalog, {"ID": "plain-2", "Port": 81, "Weights": {"Passing": 7, "Warning": 0}, "Tags": ["v1"], "Meta": {"k": "v"}})
    register(catalog, {"ID": "far-1", "Address": "10.9.9.9", "TaggedAddresses": {"lan_ipv6": {"Address": "fd77::9", "Port": 82}}})
    register(catalog, {"ID": "many-1", "Port": 0}, host={"Node": "host3", "Address": "10.0.0.3"}, TaggedAddresses={"lan_ipv4": "10.0.0.4"})
    found = instances(catalog)
    assert [(each.weight, each.addresses[0].port) for each in found["plain"]] == [(1, 80), (7, 81)]
    assert [str(address.ip) for address in found["far"][0].addresses] == ["10.9.9.9", "fd77::9"]


def test_an_agent_s_own_checks_and_maintenance(catalog):
    is_embedded = catalog.tls is not None
    if is_embedded:
        register(catalog, {"ID": "other-1"}, host={"Node": "host1", "Address": "10.0.0.1"})

    def put(path, body=None):
        catalog.ok("PUT", f"/v1/agent/{path}node=host1", body)  # Consul takes no notice of the name

    put("service/register?", {"Name": "own", "ID": "own-1", "Port": 9})
    put("check/register?", {"Name": "beat", "ID": "beat", "ServiceID": "own-1", "TTL": "600s", "Status": "critical"})
    assert [each.healthy for each in instances(catalog)["own"]] == [False]
    for status, is_healthy in (("pass", True), ("warn", True), ("fail", False)):
        put(f"check/{status}/beat?")
        assert [each.healthy for each in instances(catalog)["own"]] == [is_healthy]
    for path in ("maintenance",) if is_embedded else ("maintenance", "service/maintenance/own-1"):
        put(f"{path}?enable=true&")
        assert [each.drained for each in instances(catalog)["own"]] == [True]
        put(f"{path}?enable=false&")
        assert [each.drained for each in instances(catalog)["own"]] == [False]


def test_checks_of_a_service_and_of_its_machine(real):
    register(real, {"ID": "good-1"}, ("passing", "good-1"))
    register(real, {"ID": "bad-1"}, ("passing", "bad-1"), ("critical", "bad-1"))
    register(real, {"ID": "poor-1", "Weights": {"Passing": 5, "Warning": 2}}, ("warning", "poor-1"))
    register(real, {"ID": "Loud-1", "Service": "loud"}, ("critical", "LOUD-1"))
    found = instances(real)
    assert [(found[name][0].healthy, found[name][0].weight) for name in ("good", "bad", "poor", "loud")] == [
        (True, 1), (False, 1), (True, 2), (False, 1),
    ]  # fmt: skip
    check = {"CheckID": "serfHealth", "Name": "s", "Status": "critical"}
    real.ok("PUT", "/v1/catalog/register", {"Node": "host2", "SkipNodeUpdate": True, "Check": check})
    assert not any(instances(real)[name][0].healthy for name in ("good", "bad", "poor", "loud"))


def test_names_in_other_letters_kinds_and_empty_addresses(real):
    """Consul 1.8 finds `Shop` where `shop` is asked for, and gives a sidecar or gateway like any service."""
    register(real, {"ID": "shop-1"}, host={"Node": "host5", "Address": "10.0.0.5"})
    register(real, {"ID": "shop-2", "Service": "Shop"}, host={"Node": "HOST6", "Address": "10.0.0.6"})
    register(real, {"ID": "proxy-1", "Kind": "connect-proxy", "Proxy": {"DestinationServiceName": "shop"}})
    register(real, {"ID": "native-1", "Connect": {"Native": True}})
    register(real, {"ID": "gate-1", "Kind": "terminating-gateway"})
    register(real, {"ID": "", "Service": "nameless", "Address": "db.example"}, host={"Node": "host7", "Address": "host7.example"})
    found = instances(real)
    assert {name: len(found[name]) for name in ("shop", "proxy", "native", "gate", "nameless")} == {
        "shop": 2, "proxy": 0, "native": 1, "gate": 0, "nameless": 1,
    }  # fmt: skip
    assert found["nameless"][0].addresses == ()


def test_it_comes_compressed_and_says_the_same(catalog):
    """It is ten times longer than all else that an agent reads."""
    register(catalog, {"ID": "packed-1"})
    host, _, port = catalog.address.rpartition(":")
    kind = http.client.HTTPSConnection if catalog.tls else http.client.HTTPConnection
    with contextlib.closing(kind(host, int(port), timeout=ANSWER_S, **({"context": catalog.tls} if catalog.tls else {}))) as connection:
        connection.request("GET", INVENTORY, headers={"Accept-Encoding": "gzip", "X-Consul-Token": catalog.token})
        answer = connection.getresponse()
        body = answer.read()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == json.loads(catalog.get(INVENTORY).text)
    assert b"".join(unpacked([body], limits.CATALOG_BODY_BYTES)) == gzip.decompress(body)


def test_what_a_token_may_not_read_is_left_out_of_both(tmp_path):
    """Without a word, with 200: rows of services, and of machines, alike."""
    with Consul(tmp_path, acl=True, node="host1") as consul:
        for number in (1, 2):
            register(consul.client(), {"ID": f"open-{number}"}, ("critical", f"open-{number}"), host={"Node": f"m{number}", "Address": "10.0.0.9"})
            register(consul.client(), {"ID": f"shut-{number}"}, host={"Node": f"m{number}", "Address": "10.0.0.9"})
        rules = 'service "open" { policy = "read" } node "m1" { policy = "read" }'
        found = instances(consul.client(consul.make_token("some", rules)))
        assert [each.id for each in found["open"]] == ["open-1"]
        assert not found["open"][0].healthy
        assert set(found) == {"open"}
        for token in ("", consul.make_token("none", 'key "x" { policy = "read" }')):
            assert json.loads(consul.client(token).get(INVENTORY).text) == []
        assert consul.client("11111111-0000-0000-0000-000000000000").get(INVENTORY).status == 403
