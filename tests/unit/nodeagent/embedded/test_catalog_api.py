"""/v1/catalog and /v1/health: what a host's token may write, and what everybody reads."""

import asyncio
import gzip
from dataclasses import replace

import msgspec
import pytest

from nodeagent.embedded import agent_api, catalog_api
from nodeagent.embedded.access import Caller
from nodeagent.embedded.asking import find
from nodeagent.embedded.refusal import BadRequest, Forbidden
from tests.unit.nodeagent.embedded.desk import HOST1, HOST2

NODE1 = {"Node": "host1", "Address": "10.0.0.1", "TaggedAddresses": {"lan_ipv6": "fd::1"}}
NODE2 = {"Node": "host2", "Address": "10.0.0.2"}
WEB = {"Service": "web", "ID": "web-1", "Port": 80, "Tags": ["blue"]}


@pytest.fixture
def filled(desk):
    desk.call(catalog_api.register, HOST1, NODE1)
    desk.call(catalog_api.register, HOST1, NODE1 | {"Service": WEB})
    desk.call(catalog_api.register, HOST2, NODE2 | {"Service": {"Service": "db", "Port": 5432}})
    return desk


def test_registered_hosts_and_services_are_read(filled):
    assert [n["Node"] for n in filled.call(catalog_api.nodes, HOST2)] == ["host1", "host2"]
    assert filled.call(catalog_api.services) == {"db": [], "web": ["blue"]}
    assert filled.call(catalog_api.service, name="web")[0]["ServicePort"] == 80
    assert filled.call(catalog_api.health, name="web", query={"passing": ""})[0]["Service"]["ID"] == "web-1"
    assert filled.call(catalog_api.health, name="nothing") == []


@pytest.mark.parametrize(("tag", "count"), [("blue", 1), ("green", 0)])
@pytest.mark.parametrize("handler", [catalog_api.service, catalog_api.health])
def test_instances_are_chosen_by_tag(filled, handler, tag, count):
    assert len(filled.call(handler, query={"tag": tag}, name="web")) == count


def test_a_host_is_shown_with_its_services(filled):
    assert list(filled.call(catalog_api.node, node="host1")["Services"]) == ["web-1"]
    assert filled.call(catalog_api.node_services, node="host1")["Services"][0]["ID"] == "web-1"
    assert filled.call(catalog_api.node, node="nobody") is None


def test_all_hosts_are_shown_with_their_services_and_checks_at_once(filled):
    """Nothing that any of the other answers tells changes without an index of its own."""
    read = catalog_api.inventory
    hosts = filled.call(read)
    assert [(host["Node"], [service["ID"] for service in host["Services"]], host["Checks"]) for host in hosts] == [
        ("host1", ["web-1"], []), ("host2", ["db"], []),
    ]  # fmt: skip
    indexes = [filled.index(read)]
    moved = {"Node": "host1", "SkipNodeUpdate": True, "Service": WEB | {"Port": 81}}
    check = {"Node": "host1", "SkipNodeUpdate": True, "Check": {"Name": "disk", "Status": "critical"}}
    for body in (moved, check, NODE1 | {"TaggedAddresses": {}}):
        filled.call(catalog_api.register, HOST1, body)
        indexes.append(filled.index(read))
    filled.call(agent_api.maintain, HOST1, query={"enable": "true", "reason": "disk"})
    indexes.append(filled.index(read))
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1", "ServiceID": "web-1"})
    indexes.append(filled.index(read))
    assert sorted({*indexes}) == indexes
    host1, _ = filled.call(read)
    assert (host1["Services"], [check["CheckID"] for check in host1["Checks"]]) == ([], ["_node_maintenance", "disk"])


def test_all_hosts_are_the_same_packed_pretty_and_as_they_are(filled):
    """And after each change."""

    def told(**more):
        ask = replace(filled.ask(HOST1), **more)
        found = asyncio.run(find_all(ask)).answer
        return found.encoding, bytes(found.body)

    async def find_all(ask):
        return await find(ask, await catalog_api.inventory(ask))

    for port in (80, 81):
        filled.call(catalog_api.register, HOST1, NODE1 | {"Service": WEB | {"Port": port}})
        encoding, body = told(takes_gzip=True)
        assert encoding == "gzip"
        plain = gzip.decompress(body)
        assert told() == ("", plain)
        assert msgspec.json.decode(told(query={"pretty": ""}, takes_gzip=True)[1]) == msgspec.json.decode(plain)
        assert b'"Port":%d,' % port in plain


def test_a_service_alone_is_registered_on_a_known_host(filled):
    body = {"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "shop"}}
    assert filled.call(catalog_api.register, HOST1, body) is True
    with pytest.raises(BadRequest, match="host9 is not registered"):
        filled.call(catalog_api.register, body=body | {"Node": "host9"})


def test_services_and_hosts_go(filled):
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1", "ServiceID": "web-1"})
    assert filled.call(catalog_api.health, name="web") == []
    filled.call(catalog_api.deregister, HOST1, {"Node": "host1"})
    assert [n["Node"] for n in filled.call(catalog_api.nodes)] == ["host2"]
    assert filled.call(catalog_api.deregister, HOST1, {"Node": "host1"}) is True


@pytest.mark.parametrize(
    ("handler", "body", "sentence"),
    [
        (catalog_api.register, NODE2, "host1 may not change host2"),
        (catalog_api.register, NODE1 | {"Service": {"Service": "payments"}}, "may not register service payments"),
        (catalog_api.register, {"Node": "host2", "SkipNodeUpdate": True, "Service": WEB}, "may not change host2"),
        (catalog_api.register, NODE1 | {"Address": "10.0.0.2"}, "may not claim 10.0.0.2: it is for 10.0.0.1, fd::1"),
        (catalog_api.register, NODE1 | {"TaggedAddresses": {"lan": "10.0.0.2"}}, "may not claim 10.0.0.2"),
        (catalog_api.register, NODE1 | {"Service": WEB | {"Address": "10.0.0.2"}}, "may not claim 10.0.0.2"),
        (catalog_api.register, NODE1 | {"TaggedAddresses": {"lan": "8.8.8.8"}}, "may not claim 8.8.8.8"),
        (catalog_api.register, NODE1 | {"Service": WEB | {"Address": "8.8.8.8"}}, "may not claim 8.8.8.8"),
        (catalog_api.deregister, {"Node": "host2"}, "may not change host2"),
        (catalog_api.deregister, {"Node": "host2", "ServiceID": "db"}, "may not change host2"),
        (agent_api.register, {"Name": "web", "Address": "10.0.0.2"}, "may not claim 10.0.0.2"),
        (agent_api.register, {"Name": "web", "Address": "8.8.8.8"}, "may not claim 8.8.8.8"),
    ],
)
def test_a_host_changes_nothing_of_another(filled, handler, body, sentence):
    before = filled.call(catalog_api.nodes), filled.call(catalog_api.services)
    with pytest.raises(Forbidden, match=sentence):
        filled.call(handler, HOST1, body)
    assert (filled.call(catalog_api.nodes), filled.call(catalog_api.services)) == before


def test_a_refused_half_takes_the_other_half_with_it(filled):
    """Host and service come in one request: all of it is stored, or none."""
    body = NODE1 | {"Address": "10.0.0.9", "Service": WEB | {"Address": "10.0.0.2"}}
    with pytest.raises(Forbidden):
        filled.call(catalog_api.register, HOST1, body)
    assert filled.call(catalog_api.node, node="host1")["Node"]["Address"] == "10.0.0.1"


def test_each_list_has_an_index_of_its_own(filled):
    web = filled.index(catalog_api.health, name="web")
    hosts = filled.index(catalog_api.nodes)
    filled.call(
        catalog_api.register, HOST2, {"Node": "host2", "SkipNodeUpdate": True, "Service": {"Service": "db", "Port": 1}}
    )
    assert filled.index(catalog_api.health, name="web") == web
    assert filled.index(catalog_api.nodes) == hosts
    assert filled.index(catalog_api.health, name="db") > web


def test_the_owner_whose_token_names_an_address_gets_it_and_it_is_said(filled, capsys):
    """host1 came first with an address that is host3's; host3's token says so."""
    owner = filled.add(Caller("three", "node", "host3", (), ("10.0.0.1",)))
    assert filled.call(catalog_api.register, owner, {"Node": "host3", "Address": "10.0.0.1"}) is True
    assert [n["Node"] for n in filled.call(catalog_api.nodes)] == ["host2", "host3"]
    said = capsys.readouterr()
    assert "claim_displaced" in said.out + said.err


def test_the_leader_is_this_server(desk):
    assert desk.call(catalog_api.leader) == "127.0.0.1:8500"


def test_the_token_may_stand_in_a_body_once_more(desk):
    body = {"node": "host1", "address": "10.0.0.1", "WriteRequest": {"Token": desk.secret}}
    assert desk.call(catalog_api.register, body=body) is True
    assert desk.call(catalog_api.deregister, body={"node": "host1", "writerequest": {"Token": desk.secret}}) is True
    with pytest.raises(BadRequest, match="WriteRequest: only the token of X-Consul-Token") as refused:
        desk.call(catalog_api.register, body=body | {"WriteRequest": {"Token": "a-secret"}})
    assert "a-secret" not in str(refused.value)


def test_who_asks_for_servers_and_datacenters_is_told_of_this_one(desk):
    assert desk.call(catalog_api.peers) == [desk.call(catalog_api.leader)]
    assert desk.call(catalog_api.datacenters) == ["dc1"]


def test_of_a_service_and_a_check_the_service_goes(desk):
    """As with Consul; it was the check."""
    desk.call(catalog_api.register, body={"Node": "host1", "Address": "10.0.0.1", "Service": {"Service": "web", "ID": "w", "Port": 80}})
    assert desk.call(catalog_api.deregister, body={"Node": "host1", "ServiceID": "w", "CheckID": "none"}) is True
    assert desk.call(catalog_api.node, node="host1")["Services"] == {}
