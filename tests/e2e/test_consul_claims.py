"""Of a real Consul 1.8.7: by what agents tell which of two services was registered first at a port."""

import json

import pytest

from nodeagent.catalog.inventory import INVENTORY, InventoryReader
from nodeagent.catalog.state import parse_instances
from tests.e2e.support.consul import dev_mode

API, AAA = {"ID": "api", "Service": "api", "Port": 9090}, {"ID": "aaa", "Service": "aaa", "Port": 9090}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with dev_mode(tmp_path_factory.mktemp("dev")) as client:
        yield client


def register(client, service):
    client.ok("PUT", "/v1/catalog/register", {"Node": "host2", "Address": "10.77.0.2", "SkipNodeUpdate": False, "Service": service})


def registered_at(client, service):
    """As a watch of the service hears it, and the reader of all of them."""
    health = parse_instances(service, json.dumps(client.ok("GET", f"/v1/health/service/{service}")).encode())
    listed = InventoryReader().read(json.dumps(client.ok("GET", INVENTORY)).encode()).instances[service]
    (index,) = {row.registered_at for row in (*health, *listed)}
    return index


def test_both_kinds_of_answers_say_since_when_and_only_another_registration_changes_it(client):
    """A new tag and the same again are the same registration; one that was taken out meanwhile is a new one."""
    register(client, API)
    first = registered_at(client, "api")
    register(client, AAA)
    assert 0 < first < registered_at(client, "aaa")
    for again in (API, API | {"Tags": ["v2"]}):
        register(client, again)
        assert registered_at(client, "api") == first
    client.ok("PUT", "/v1/catalog/deregister", {"Node": "host2", "ServiceID": "api"})
    register(client, API)
    assert registered_at(client, "api") > registered_at(client, "aaa")
