"""The mesh as one value."""

import dataclasses

import pytest

from nodeagent.model.snapshot import Mesh, Registration, Snapshot
from tests.support.mesh import WEB, mesh


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
