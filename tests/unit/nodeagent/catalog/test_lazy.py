"""Services decoded when they are met."""

import msgspec
import pytest

from nodeagent.catalog.buckets import buckets_of
from nodeagent.catalog.lazy import LazyServices
from nodeagent.errors import CatalogError
from nodeagent.model.service import Service

A, B, C = Service("a"), Service("b", "http"), Service("c")


def raw(service: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(service))


def lazy(**services: msgspec.Raw | Service) -> LazyServices:
    return LazyServices(buckets_of(services))


def test_a_service_is_decoded_once_and_then_the_same() -> None:
    """Whether it has been met or not, the map is the same."""
    services = lazy(a=raw(A), b=B)
    assert (2, ["a", "b"]) == (len(services), sorted(services))
    assert services["a"] is services["a"]
    assert {"a": A, "b": B} == services
    assert (2, ["a", "b"]) == (len(services), sorted(services))
    assert "a" in services
    assert services.get("c") is None


def test_replacing_leaves_the_old_map_as_it_was() -> None:
    """A worker's open decisions keep the snapshot they started with."""
    old = lazy(a=raw(A), b=raw(B))
    new = old.replaced([Service("b", "grpc"), C], ["a", "never"])
    assert {"b": Service("b", "grpc"), "c": C} == new
    assert {"a": A, "b": B} == old


def test_bytes_that_are_no_service_are_our_error() -> None:
    """A spoiled file says which service it spoiled."""
    with pytest.raises(CatalogError, match="service a cannot be read"):
        lazy(a=raw(7))["a"]
