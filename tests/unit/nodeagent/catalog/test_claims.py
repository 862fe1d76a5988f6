"""Several services at one address and port of a host: nobody is called in another's place by registering there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeagent.catalog.claims import claims_of, since_moved
from nodeagent.catalog.inventory import InventoryReader
from nodeagent.catalog.parts import best_owners, intentions_of, service_of
from nodeagent.catalog.state import InstanceRow, parse_instances
from nodeagent.model.address import Address
from nodeagent.model.service import Host
from tests.support.mesh import HOST1, HOST2, HOSTS, config, instance, intention, seen_by, state

API = Address("10.77.0.2", 9090)
VIRTUAL = ("10.99.0.9",)


@pytest.mark.parametrize("host", ["host1", "host2"])
@pytest.mark.parametrize("name", ["aaa", "zzz"])
@pytest.mark.parametrize("healthy", [True, False])
def test_the_first_registered_keeps_the_port_whatever_health_and_names_say(host: str, name: str, healthy: bool) -> None:  # noqa: FBT001
    """For the caller's agent and the callee's."""
    both = {"api": (instance(HOST2, 9090, healthy=healthy, since=20),), name: (instance(HOST2, 9090, id_=name, since=21),)}
    assert "api" == seen_by(host, **both).by_address[API].service.name
    assert {"api"} == {found.service.name for found in seen_by("host2", **both).local_by_port.values()}


def test_a_service_is_there_since_its_first_instance_that_is() -> None:
    """A new ID beside the old one, as in a change of versions, loses nothing; another address is another place."""
    old, new = instance(HOST2, 9090, id_="old", healthy=False, since=5), instance(HOST2, 9090, id_="new", since=30)
    aaa = (instance(HOST2, 9090, id_="aaa", since=10),)
    found = seen_by("host1", api=(old, new), aaa=aaa).by_address[API]
    assert ("api", "new") == (found.service.name, found.instance.id)
    elsewhere = instance(HOST2, 9091, id_="old", since=5)
    assert "aaa" == seen_by("host1", api=(elsewhere, new), aaa=aaa).by_address[API].service.name


def test_an_instance_that_is_gone_stands_for_its_address_only_where_nobody_else_does() -> None:
    """Not for one of another machine, though: a registration there must not draw its calls."""
    there = instance(HOST2, 9090, since=5)
    gone = replace(there, instance=replace(there.instance, gone=True))
    for host in ("host1", "host2"):
        assert "api" == seen_by(host, api=(gone,)).by_address[API].service.name
        assert "zzz" == seen_by(host, api=(gone,), zzz=(instance(HOST2, 9090, id_="zzz", since=9),)).by_address[API].service.name
        afar = instance(HOST1, 9090, ips=HOST2.addresses, since=1)
        assert "api" == seen_by(host, api=(gone,), aaa=(afar,)).by_address[API].service.name


def test_of_one_service_at_a_virtual_address_the_healthy_instance_is_met() -> None:
    """The address moves from host to host: that is no quarrel."""
    one, two = instance(HOST2, 80, ips=VIRTUAL, since=1, healthy=False), instance(HOSTS[2], 80, ips=VIRTUAL, since=2)
    assert "host3" == seen_by("host1", vip=(one, two)).by_address[Address(*VIRTUAL, 80)].instance.host


@pytest.mark.parametrize("host", ["host1", "host2"])
def test_what_an_older_version_saved_without_the_count_is_not_before_all_others(host: str) -> None:
    """Until it is heard it is there since its last change at the latest."""
    saved = replace(instance(HOST2, 9090, id_="aaa"), said_at=21)
    for since, first in ((20, "api"), (22, "aaa")):
        assert first == seen_by(host, api=(instance(HOST2, 9090, since=since),), aaa=(saved,)).by_address[API].service.name


@pytest.mark.parametrize("host", ["host1", "host2"])
@pytest.mark.parametrize("since", [0, 7])
def test_where_the_catalog_does_not_say_who_was_first_the_name_decides(host: str, since: int) -> None:
    """The same at both ends."""
    both = {name: (instance(HOST2, 9090, healthy=name == "zzz", since=since),) for name in ("zzz", "aaa")}
    assert "aaa" == seen_by(host, **both).by_address[API].service.name


claims = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((80, 81)), st.integers(0, 5), st.booleans()), max_size=6)


@given(claims)
def test_both_ends_come_to_the_same(rows: list[tuple[str, int, int, bool]]) -> None:
    """Whatever is registered on host2."""
    named = {
        name: tuple(instance(HOST2, port, id_=str(n), since=since, healthy=healthy) for n, (one, port, since, healthy) in enumerate(rows) if one == name)
        for name in "abc"
    }  # fmt: skip
    here, there = seen_by("host1", **named), seen_by("host2", **named)
    assert here.by_address == there.by_address
    assert {port: found.service.name for port, found in there.local_by_port.items()} == {
        address.port: found.service.name for address, found in here.by_address.items()
    }


def told(port: int, created: int, changed: int, *, ips: tuple[str, ...] = (), host: Host = HOST2) -> InstanceRow:
    """One row of an answer."""
    return replace(instance(host, port, ips=ips, id_="x", since=created), said_at=changed)


MORE = Host("host2", (*HOST2.addresses, "10.77.0.22"), 15008)
MOVES = [
    # what an instance was, what it is, and since when it is there
    (told(7777, 5, 5), told(9090, 5, 40), 40),
    (told(9090, 5, 5, ips=VIRTUAL), told(9090, 5, 40), 40),
    (told(9090, 5, 5), told(9090, 5, 40), 5),
    (told(9090, 5, 5), told(9090, 5, 40, ips=("10.77.0.2",)), 5),
    (told(9090, 5, 5), told(9090, 5, 5, host=MORE), 5),
    (replace(told(9090, 5, 40), registered_at=40), told(9090, 5, 40), 40),
    (told(9090, 5, 5), told(9090, 50, 50), 50),
    (replace(told(9090, 5, 40), registered_at=40), told(9090, 3, 4), 3),
    (told(9090, 0, 0), told(9091, 0, 0), 0),
    (told(9090, 0, 40), told(9090, 5, 40), 5),
]


@pytest.mark.parametrize(("before", "now", "since"), MOVES)
def test_an_instance_that_moves_is_where_it_goes_since_then(before: InstanceRow, now: InstanceRow, since: int) -> None:
    """Its host's addresses may change; a word of a catalog that went back counts as it is."""
    assert [since] == [row.registered_at for row in since_moved((before,), (now,))]
    assert (now,) == since_moved((), (now,))


def test_the_index_comes_from_each_kind_of_answer() -> None:
    """A service may be watched, or read with all others."""
    service = b'{"ID":"api","Service":"api","Port":9090,"CreateIndex":17,"ModifyIndex":40}'
    health = parse_instances("api", b'[{"Node":{"Node":"host2","Address":"10.77.0.2"},"Service":%s}]' % service)
    listed = InventoryReader().read(b'[{"Node":"host2","Address":"10.77.0.2","Services":[%s]}]' % service).instances["api"]
    assert [(17, 40)] * 2 == [(row.registered_at, row.said_at) for row in (*health, *listed)]


def test_a_service_claims_its_addresses_and_those_of_its_machine() -> None:
    """The agent there takes the port at each of them."""
    rows = (instance(HOST2, 80, ips=("10.77.0.2",)),)
    hosts, owners = {"host2": HOST2}, best_owners((HOST1, HOST2), "host1")
    service = service_of("web", state(web=rows), config(), intentions_of([intention("* -> web allow")]), owners)
    claims = claims_of(service, rows, hosts, owners, "host1")
    assert {Address("10.77.0.2", 80): False, Address("fd77::2", 80): True} == {a: c.rank.is_implied for a, c in claims.items()}
    assert not any(claim.is_local for claim in claims.values())
