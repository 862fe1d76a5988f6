"""The table of routes."""

import inspect

from nodeagent.embedded.routes import ALWAYS, ROUTES


def test_no_route_stands_twice():
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_only_the_server_is_told_without_a_token():
    """As with Consul, whose clients send none there."""
    open_paths = [route.path for route in ROUTES if route.is_open]
    assert open_paths == ["/v1/status/leader", "/v1/status/peers", "/v1/catalog/datacenters"]


def test_every_handler_says_its_path():
    for route in ROUTES:
        assert inspect.getdoc(route.handler), route.path
        assert not set(route.params) & set(ALWAYS), route.path
