"""What is registered on one machine, as Consul 1.8.7 shows it."""

import json

import pytest

from nodeagent import limits
from nodeagent.catalog.registered import services_at
from nodeagent.errors import CatalogError


def service(name: str, port: int = 80, **more: object) -> dict:
    return {"ID": f"{name}-1", "Service": name, "Address": "", "Port": port, "Weights": {"Passing": 1, "Warning": 1}, **more}


def shown(*services: dict) -> bytes:
    return json.dumps({"Node": {"Node": "host1", "Address": "10.77.0.1"}, "Services": {row["ID"]: row for row in services}}).encode()


def test_who_is_registered_at_a_port_of_one_machine() -> None:
    """Its agent, sidecars and what is another cluster's are nobody; an address outside the mesh is none."""
    tagged = service("tagged", 1, TaggedAddresses={"lan_ipv6": {"Address": "fd77::1", "Port": 80}, "wan": {"Address": "198.51.100.1", "Port": 9}})
    others = (service("nodeagent"), service("web-proxy", Kind="connect-proxy"), service("a b"), service("far", PeerName="other"))
    body = shown(service("Web"), service("db", 5432), tagged, *others)
    assert services_at(body, {80}) == {"web", "tagged"}
    assert services_at(body, {1, 5432, 9}) == {"db", "tagged"}
    assert services_at(body, {"db", "far", "elsewhere"}) == {"db"}
    assert services_at(body) == {"web", "db", "tagged"}


@pytest.mark.parametrize("address", ["db.example", "", "a b!"])
def test_a_label_without_an_ip_address_is_no_way_to_a_service(address: str) -> None:
    """Nobody is known at such an address, and nobody will be."""
    body = shown(service("db", 84, TaggedAddresses={"lan": {"Address": address, "Port": 9001}}))
    assert services_at(body, {9001}) == frozenset()
    assert services_at(body, {84}) == {"db"}


def test_a_machine_that_is_not_shown_has_nothing() -> None:
    for none in (b"null", b'{"Node": {}, "Services": null}', b"{}"):
        assert services_at(none) == frozenset()
    for odd in (b"[]", b'{"Services": []}', b'{"Services": {"x": {"Port": "80"}}}', b"{"):
        with pytest.raises(CatalogError, match="/v1/catalog/node"):
            services_at(odd, {80})


def test_only_so_many_of_one_port_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_USE_SERVICES", 2)
    body = shown(service("c"), service("b"), service("a"))
    assert services_at(body, {80}) == {"a", "b"}
    assert services_at(body) == {"a", "b", "c"}
