"""Whose requests are given a way of their own."""

from dataclasses import replace

import msgspec
import pytest

from nodeagent.decide.routed import is_routed, why_dialled
from nodeagent.model.snapshot import Snapshot
from nodeagent.model.traffic import Traffic
from tests.support.mesh import mesh


def snapshot(traffic: Traffic | None, *, protocol: str = "http", dial_instance: tuple[str, ...] = ()) -> Snapshot:
    """web with these entries."""
    made = mesh()
    web = msgspec.structs.replace(made.services["web"], traffic=traffic, protocol=protocol)
    return replace(made, services={**made.services, "web": web}, mesh=msgspec.structs.replace(made.mesh, dial_instance=dial_instance))


BALANCED = Traffic(balance_dialled=True)


def test_requests_are_routed_where_the_operator_asked_for_it() -> None:
    """Of services that speak http."""
    assert is_routed(snapshot(BALANCED), "shop", "web")


@pytest.mark.parametrize(
    ("made", "source", "destination", "why"),
    [
        (snapshot(BALANCED), "shop", "ghost", "no service of which requests are read"),
        (snapshot(BALANCED, protocol="tcp"), "shop", "web", "no service of which requests are read"),
        (snapshot(BALANCED, protocol="grpc"), "shop", "web", "no service of which requests are read"),
        (snapshot(None), "shop", "web", "no balance_dialled"),
        (snapshot(Traffic()), "shop", "web", "no balance_dialled"),
        (snapshot(BALANCED), "web", "web", "calls itself"),
        (snapshot(BALANCED, dial_instance=("prometheus",)), "prometheus", "web", "one of traffic.dial_instance"),
    ],
)
def test_else_they_go_to_the_instance_that_was_dialled(made: Snapshot, source: str, destination: str, why: str) -> None:
    """Databases and clusters have roles, and a monitor means each one."""
    assert not is_routed(made, source, destination)
    assert why in why_dialled(made, source, destination)
