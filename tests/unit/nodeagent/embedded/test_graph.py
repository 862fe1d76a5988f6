"""What Consul refuses at a write because of other entries is refused here, too."""

import asyncio

import pytest

from nodeagent.catalog.policy.entries import Key
from nodeagent.embedded import config_api, intentions_api
from nodeagent.embedded.config_entries import put_entry
from nodeagent.embedded.graph import check_graph
from nodeagent.embedded.refusal import BadRequest

HTTP = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
ROUTER = {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"NumRetries": 2}}]}


def redirect(name, to):
    return {"Kind": "service-resolver", "Name": name, "Redirect": {"Service": to}}


def put(desk, *entries):
    assert [desk.call(config_api.put, body=entry) for entry in entries] == [True] * len(entries)


def test_a_router_needs_a_protocol_of_requests_and_keeps_it(desk):
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        put(desk, ROUTER)
    put(desk, HTTP, ROUTER)
    for change in (lambda: put(desk, HTTP | {"Protocol": "tcp"}), lambda: desk.call(config_api.delete, kind="service-defaults", name="web")):
        with pytest.raises(BadRequest, match="service-router web: Routes: the protocol of web is tcp"):
            change()
    desk.call(config_api.delete, kind="service-router", name="web")
    put(desk, HTTP | {"Protocol": "tcp"})


def test_the_default_protocol_counts(desk):
    put(desk, {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}, ROUTER)
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        desk.call(config_api.delete, kind="proxy-defaults", name="global")


def test_circles_are_refused(desk):
    put(desk, redirect("a", "b"), redirect("b", "c"))
    with pytest.raises(BadRequest, match="service-resolver c: Redirect: leads in a circle: c -> a -> b -> c"):
        put(desk, redirect("c", "a"))


def test_permissions_need_a_protocol_of_requests(desk):
    permissions = [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]
    entry = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Permissions": permissions}]}
    with pytest.raises(BadRequest, match=r"Sources\[0\]\.Permissions: the protocol of web is tcp"):
        put(desk, entry)
    pair = {"source": "shop", "destination": "web"}
    with pytest.raises(BadRequest, match=r"Sources\[0\]\.Permissions: the protocol of web is tcp"):
        desk.call(intentions_api.put, body={"Permissions": permissions}, query=pair)
    put(desk, HTTP, entry)
    assert desk.call(intentions_api.put, body={"Permissions": permissions}, query=pair) is True
    with pytest.raises(BadRequest, match="the protocol of web is tcp"):
        put(desk, HTTP | {"Protocol": "tcp"})


def test_what_was_wrong_before_stops_no_other_write(desk):
    """An older version may have taken it; what this one cannot read is passed over."""
    for entry in (ROUTER, {"Kind": "service-splitter", "Name": "old", "Splits": []}):
        asyncio.run(desk.store.write(lambda change, entry=entry: put_entry(change, entry)))
    put(desk, redirect("a", "b"))
    desk.store.read(lambda connection: check_graph(connection, Key("service-resolver", "a"), redirect("a", "c")))
