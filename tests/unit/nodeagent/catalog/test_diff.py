"""What changed between two snapshots."""

from nodeagent.catalog.buckets import buckets_of
from nodeagent.catalog.diff import Delta, diff, differing, is_empty, owners_of
from tests.support.mesh import HOST2, HOST3, instance, mesh


def test_the_same_mesh_is_an_empty_delta() -> None:
    """Only the number moved: no worker hears of it."""
    delta = diff(mesh("shop -> web allow"), mesh("shop -> web allow", generation=2))
    assert Delta(1, 2) == delta
    assert is_empty(delta)


def test_an_intention_changes_its_destination_alone() -> None:
    """Nothing of the indexes travels."""
    old, new = mesh("shop -> web allow"), mesh("shop -> web deny", generation=2)
    delta = diff(old, new)
    assert Delta(1, 2, services=(new.services["web"],)) == delta
    assert not is_empty(delta)


def test_a_new_instance_brings_its_addresses() -> None:
    """And the removal of a service takes them away."""
    old = mesh()
    new = mesh(generation=2, web=(instance(HOST2, 80), instance(HOST3, 80)), extra_one=(instance(HOST2, 81),))
    delta = diff(old, new)
    assert {"10.77.0.3:80": "1 web", "[fd77::3]:80": "1 web", "10.77.0.2:81": "0 extra_one", "[fd77::2]:81": "0 extra_one"} == delta.addresses
    back = diff(new, old)
    assert ("extra_one",) == back.removed
    assert set(delta.addresses) == set(back.addresses)
    assert {None} == set(back.addresses.values())


def test_modes_and_wildcards_travel_when_they_change_and_only_then() -> None:
    """None stands for as before."""
    new = mesh("* -> * allow", mode="observe", generation=2)
    assert Delta(1, 2, mesh=new.mesh, wildcards=new.wildcards) == diff(mesh(), new)
    assert () == diff(new, mesh()).wildcards


def test_owners_are_named() -> None:
    """By address."""
    assert "host2" == owners_of(mesh())["fd77::2"]


def test_differing_looks_at_what_maps_do_not_share() -> None:
    """Whatever kind of map it is."""
    old, new = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "d": 5}
    assert {"b", "c", "d"} == differing(old, new) == differing(buckets_of(old), buckets_of(new)) == differing(old, buckets_of(new))
    assert set() == differing(old, old)
