"""The table of routes."""

import asyncio
import inspect

import pytest

from nodeagent.embedded.routes import ALWAYS, ROUTES, WAIT

OF_ONE_THING = ("/v1/config/{kind}/{name}", "/v1/connect/ca/roots", "/v1/agent/connect/ca/roots")


def test_no_route_stands_twice():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_only_the_server_is_told_without_a_token():
    """As with Consul, whose clients send none there; and what nobody keeps secret."""
    open_paths = [route.path for route in ROUTES if route.is_open]
    assert open_paths == ["/v1/status/leader", "/v1/status/peers", "/v1/catalog/datacenters"]
    assert [route.path for route in ROUTES if route.is_public] == ["/v1/connect/ca/roots", "/v1/agent/connect/ca/roots"]


def test_every_handler_says_its_path():
    for route in ROUTES:
        assert inspect.getdoc(route.handler), route.path
        assert not set(route.params) & set(ALWAYS), route.path


@pytest.mark.parametrize("route", [route for route in ROUTES if set(WAIT) <= set(route.params)], ids=lambda route: route.path)
def test_whatever_may_be_long_is_read_beside_the_loop(desk, route):
    names = {"name": "web", "node": "host1", "kind": "service-defaults", "key": "nodeagent/x", "state": "any"}
    query = {"by": "source", "name": "web", "source": "a", "destination": "b", "recurse": "", "node": "host1"}
    wanted = asyncio.run(route.handler(desk.ask(query=query, **names)))
    assert wanted.is_list is (route.path not in OF_ONE_THING)
