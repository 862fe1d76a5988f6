"""The mesh as one value."""

import dataclasses

import pytest

from nodeagent.model.snapshot import Mesh, Registration, Snapshot
from tests.support.mesh import HOST1, HOST2, WEB, instance, mesh


def test_nothing_of_a_snapshot_can_be_set() -> None:
    """A worker swaps one reference; whoever holds the old one holds it whole."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        mesh().generation = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        mesh().mesh.mode = "observe"  # type: ignore[misc]


def test_a_snapshot_of_nothing_is_strict() -> None:
    """Defaults are the safe ones."""
    empty = Snapshot(0, Mesh("td", "dc1", "host1"), {}, {})
    assert ("strict", "registered", ()) == (empty.mesh.mode, empty.mesh.units, empty.mesh.plaintext_ok)
    assert not empty.by_address


def test_a_registration_names_service_and_instance() -> None:
    """Both at once: which service, which of its instances."""
    found = mesh().by_address[WEB]
    assert Registration(found.service, found.service.instances[0]) == found


def test_every_service_of_a_port_is_named() -> None:
    """Of this host; the one that decides there hides none."""
    more = {"a": (instance(HOST1, 9000, id_="a"),), "b": (instance(HOST2, 9000),)}
    assert mesh(**more).local_services() == {9000: {"a", "shop"}, 7000: {"cart"}}
