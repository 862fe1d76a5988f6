"""What a captured destination means."""

import pytest
from msgspec.structs import replace

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.state import CatalogState, InstanceRow
from nodeagent.decide.route import Elsewhere, ToHost, ToService, find_destination, implied_addresses
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.service import Host
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import CART, HOST1, HOST2, HOST3, LEGACY, SHOP, WEB, WEB6, config, instance, mesh

HOST4 = Host("host4", HOST2.addresses, 15008)
"""A machine where host2 was."""


def find(snapshot, address: Address, *, is_local: bool = False):
    return find_destination(snapshot, OriginalDst(address), dst_is_local=is_local)


@pytest.mark.parametrize(
    ("address", "service", "host", "is_local"),
    [(WEB, "web", HOST2, False), (WEB6, "web", HOST2, False), (LEGACY, "legacy", HOST3, False), (CART, "cart", HOST1, True)],
)
def test_a_registered_address_is_its_instance(address, service, host, is_local) -> None:
    """In either family; the machine is the one that has the address."""
    found = find(mesh(), address)
    assert isinstance(found, ToService)
    assert (service, host, is_local, address) == (found.service.name, found.host, found.is_local, found.address)
    assert address in found.instance.addresses


def test_a_local_port_is_its_service_at_every_local_address() -> None:
    """A caller on this machine meets policy at addresses that the catalog does not know."""
    found = find(mesh(), Address("172.17.0.1", SHOP.port), is_local=True)
    assert isinstance(found, ToService)
    assert ("shop", True, HOST1) == (found.service.name, found.is_local, found.host)


def test_an_unregistered_port_of_a_mesh_host_is_its_host() -> None:
    """The address is dialled as it is."""
    assert ToHost(HOST2, Address("10.77.0.2", 22)) == find(mesh(), Address("10.77.0.2", 22))


@pytest.mark.parametrize(("ip", "is_local"), [("192.0.2.1", False), ("192.0.2.1", True), ("2001:db8::1", False)])
def test_what_the_mesh_does_not_know_is_elsewhere(ip: str, is_local: bool) -> None:  # noqa: FBT001 - a table's column
    """A captured network holds more than the mesh."""
    assert Elsewhere(Address(ip, 4444)) == find(mesh(), Address(ip, 4444), is_local=is_local)


def test_the_owner_of_an_address_is_dialled_whoever_claims_it() -> None:
    """A registration made on host3 for an address of host2 draws nothing to host3."""
    claim = Address("10.77.0.2", 5000)
    found = find(mesh(evil=(instance(HOST3, 5000, ips=("10.77.0.2",)),)), claim)
    assert isinstance(found, ToService)
    assert ("evil", HOST2) == (found.service.name, found.host)


def test_an_address_without_owner_leads_to_where_it_was_registered() -> None:
    """A further address of a machine, which its node in the catalog does not list."""
    found = find(mesh(db=(instance(HOST2, 5432, ips=("10.99.0.2",)),)), Address("10.99.0.2", 5432))
    assert isinstance(found, ToService)
    assert (HOST2, False) == (found.host, found.is_local)


def test_an_instance_is_met_at_the_other_addresses_of_its_host() -> None:
    """Where an agent runs, and nothing else is registered there."""
    one = mesh(web=(instance(HOST2, 80, ips=("10.77.0.2",)),), legacy=(instance(HOST3, 5432, ips=("10.77.0.3",)),))
    assert implied_addresses(one, one.services["web"].instances[0]) == [WEB6]
    assert implied_addresses(one, one.services["legacy"].instances[0]) == []
    two = mesh(web=(instance(HOST2, 80, ips=("10.77.0.2",)),), api=(instance(HOST2, 80, ips=("fd77::2",), id_="api"),))
    assert implied_addresses(two, two.services["web"].instances[0]) == []
    both = mesh()
    assert implied_addresses(both, both.services["web"].instances[0]) == []


@pytest.mark.parametrize("new", [HOST4, replace(HOST4, tunnel_port=0)])
def test_who_took_a_machine_s_place_has_its_address(new: Host) -> None:
    """Under another name, and with another service: what is gone there is in nobody's way."""
    snapshot = taken_over(new, foo=(instance(new, 80),))
    found = find(snapshot, WEB)
    assert isinstance(found, ToService)
    assert ("foo", new) == (found.service.name, found.host)
    assert "host4" == snapshot.host_by_ip[WEB.ip].name


def test_what_is_gone_is_not_called_in_clear_where_a_machine_without_an_agent_took_its_address() -> None:
    for new, expected in ((HOST4, "host4"), (replace(HOST4, tunnel_port=0), "host2")):
        found = find(taken_over(new), WEB)
        assert isinstance(found, ToService)
        assert found.host
        assert ("web", expected, 15008) == (found.service.name, found.host.name, found.host.tunnel_port)


def taken_over(new: Host, **services: tuple[InstanceRow, ...]) -> Snapshot:
    """Without host2, but for what is gone of web there."""
    web = instance(HOST2, 80)
    web = replace(web, instance=replace(web.instance, gone=True))
    state = CatalogState((HOST1, new), {"web": (web,), **services})
    return compile_snapshot(state, config(), trust_domain="td", generation=1)
