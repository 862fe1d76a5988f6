"""`?filter=` and `?node-meta=` at every endpoint that takes them."""

import threading

import pytest

from nodeagent import limits
from nodeagent.catalog.bexpr_rows import selectors
from nodeagent.embedded import agent_api, catalog_api, filters, intentions_api
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.routes import ROUTES
from tests.unit.nodeagent.embedded.desk import HOST1

MARKS = {"CreateIndex", "ModifyIndex"}


@pytest.fixture
def filled(desk):
    for number, zone in ((1, "a"), (2, "b")):
        web = {
            "Service": "web", "ID": f"web{number}", "Port": 80 + number, "Tags": ["v1", zone], "Weights": {"Passing": number},
            "TaggedAddresses": {"lan_ipv4": {"Address": f"10.0.0.{number}", "Port": 80}}, "Meta": {"zone": zone},
        }  # fmt: skip
        body = {"Node": f"host{number}", "Address": f"10.0.0.{number}", "NodeMeta": {"rack": zone}, "Service": web}
        desk.call(catalog_api.register, body=body)
    desk.call(agent_api.register, HOST1, {"Name": "shop", "Port": 90})
    desk.call(agent_api.maintain, HOST1, query={"enable": "true", "reason": "disk"})
    for source, action in (("shop", "allow"), ("*", "deny")):
        desk.call(intentions_api.put, body={"Action": action}, query={"source": source, "destination": "web"})
    return desk


@pytest.mark.parametrize(
    ("handler", "path", "text", "count"),
    [
        (catalog_api.nodes, {}, "Meta.rack == b", 1),
        (catalog_api.nodes, {}, "Address matches `^10[.]`", 2),
        (catalog_api.service, {"name": "web"}, "ServiceMeta.zone == a and NodeMeta.rack == a", 1),
        (catalog_api.service, {"name": "web"}, "ServiceWeights.Passing == 2", 1),
        (catalog_api.service, {"name": "web"}, "ServiceTaggedAddresses.lan_ipv4.Address == `10.0.0.2`", 1),
        (catalog_api.health, {"name": "web"}, "Service.Port == 81 or b in Service.Tags", 2),
        (catalog_api.health, {"name": "web"}, "Checks is empty", 1),
        (catalog_api.health, {"name": "web"}, "Checks.Status == critical and Node.Node == host1", 1),
        (catalog_api.health_of_node, {"node": "host1"}, "Status == passing", 0),
        (catalog_api.health_of_node, {"node": "host1"}, "Notes == disk", 1),
        (agent_api.services, {}, "Service == shop", 1),
        (intentions_api.every, {}, "SourceName == shop and Action == allow", 1),
        (intentions_api.every, {}, "Description == ``", 2),
        (intentions_api.every, {}, " ", 2),
        (intentions_api.every, {}, "ID == `` and Meta is empty", 2),
        (catalog_api.health, {"name": "web"}, "Service.Kind == `` and Service.Connect.Native == false and Service.Proxy.Upstreams is empty", 2),
        (catalog_api.health, {"name": "web"}, "Service.Proxy.DestinationServiceName == shop or Service.Proxy.MeshGateway.Mode != ``", 0),
        (catalog_api.service, {"name": "web"}, "ServiceProxy.Upstreams.DestinationName == shop or ServiceConnect.Native != false", 0),
    ],
)
def test_each_list_is_filtered(filled, handler, path, text, count):
    assert len(filled.call(handler, HOST1, query={"filter": text}, **path)) == count


def test_a_hosts_services_are_filtered_and_the_host_stays(filled):
    query = {"filter": "Service == web"}
    assert list(filled.call(catalog_api.node, query=query, node="host1")["Services"]) == ["web1"]
    assert [s["ID"] for s in filled.call(catalog_api.node_services, query=query, node="host1")["Services"]] == ["web1"]
    assert filled.call(catalog_api.node, query={"filter": "Service == x"}, node="host1")["Services"] == {}
    assert filled.call(catalog_api.node, query=query, node="nobody") is None


def test_a_bad_filter_is_refused_also_where_there_is_no_row(desk):
    with pytest.raises(BadRequest, match=r"\?filter=: Nod: no such field; here is ID, Node, "):
        desk.call(catalog_api.nodes, query={"filter": "Nod == x"})
    with pytest.raises(BadRequest, match=r"\?filter=: unexpected the end"):
        desk.call(catalog_api.health, query={"filter": "Node.Node =="}, name="nothing")


def test_a_filter_is_made_and_asked_beside_the_loop_and_a_costly_one_is_refused(filled, monkeypatch):
    where, real = [], filters.question

    def made(text, fields):
        where.append(threading.get_ident())
        return real(text, fields)

    monkeypatch.setattr(filters, "question", made)
    query = {"filter": "Service matches `w+`"}
    assert list(filled.call(agent_api.services, HOST1, query=query)) == ["web1"]
    assert where
    assert threading.get_ident() not in where
    monkeypatch.setattr(limits, "FILTER_STEPS", 1)
    with pytest.raises(BadRequest, match=r"\?filter=: its patterns take too long"):
        filled.call(agent_api.services, HOST1, query=query)


def test_hosts_are_chosen_by_their_meta(filled):
    for handler, path in ((catalog_api.nodes, {}), (catalog_api.service, {"name": "web"}), (catalog_api.health, {"name": "web"})):
        counts = [len(filled.call(handler, query={"node-meta": text}, **path)) for text in ("rack:a", "rack:c", "rack", "")]
        assert counts == [1, 0, 0, 0]


def test_services_are_chosen_by_their_hosts_meta_and_a_change_of_it_is_told(filled):
    query = {"node-meta": "rack:b"}
    assert filled.call(catalog_api.services, query=query) == {"web": ["b", "v1"]}
    assert set(filled.call(catalog_api.services)) == {"shop", "web"}
    before = filled.index(catalog_api.services, query=query)
    filled.call(catalog_api.register, body={"Node": "host2", "Address": "10.0.0.2", "NodeMeta": {"rack": "c"}})
    assert filled.call(catalog_api.services, query=query) == {}
    assert filled.index(catalog_api.services, query=query) > before


def test_every_field_of_an_answer_can_be_named(filled):
    """What is shown can be asked for, but the indexes: as with Consul."""
    for handler, path, fields in (
        (catalog_api.nodes, {}, filters.NODE), (catalog_api.service, {"name": "web"}, filters.FLAT),
        (catalog_api.health, {"name": "web"}, filters.HEALTH), (catalog_api.health_of_node, {"node": "host1"}, filters.CHECK),
        (intentions_api.every, {}, filters.INTENTION),
    ):  # fmt: skip
        row = filled.call(handler, query={}, **path)[0]
        assert set(row) - MARKS <= set(fields), handler
    (row, *_) = filled.call(catalog_api.health, name="web")
    assert set(row["Service"]) - MARKS == set(filters.SERVICE) - {"Kind", "Proxy", "Connect"}
    assert set(row["Node"]) - MARKS == set(filters.NODE)
    assert selectors(filters.HEALTH)["Checks.Status"] == "text"


def test_what_takes_a_filter_is_in_the_table_of_routes():
    assert sum("filter" in route.params for route in ROUTES) == 11
