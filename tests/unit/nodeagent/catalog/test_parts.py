"""One host, one service, its claims."""

from nodeagent.catalog.parts import best_owners, claims_of, host_of, intentions_of, service_of
from nodeagent.model.address import Address
from nodeagent.model.service import Host
from tests.support.mesh import HOST1, HOST2, HOST3, config, instance, intention, state


def test_a_machine_has_an_agent_where_either_answer_shows_one() -> None:
    """It must not be dialled in clear."""
    bare = Host("host2", ("10.77.0.2",))
    assert 15008 == host_of(bare, HOST2, config()).tunnel_port
    assert HOST3 == host_of(None, HOST3, config())


def test_this_host_is_as_its_configuration_says() -> None:
    """The catalog says whether it is marked, and nothing else."""
    assert Host("host1", ("10.77.0.1", "fd77::1"), 15008) == host_of(Host("host1", ("10.9.9.9",), 15008), None, config())


def test_addresses_that_mean_every_machine_are_left_out() -> None:
    """Loopback is each host's own."""
    assert ("10.77.0.3",) == host_of(Host("host3", ("127.0.0.1", "10.77.0.3")), None, config()).addresses


def test_the_meshed_one_owns_an_address_that_two_have() -> None:
    """And this host before all others."""
    twin = Host("a", HOST2.addresses)
    assert HOST2 == best_owners((twin, HOST2), "host1")["10.77.0.2"]
    assert twin == best_owners((twin, HOST2), "a")["10.77.0.2"]


def test_a_service_claims_its_addresses_and_those_of_its_machine() -> None:
    """The agent there takes the port at each of them."""
    rows = (instance(HOST2, 80, ips=("10.77.0.2",)),)
    hosts, owners = {"host2": HOST2}, best_owners((HOST1, HOST2), "host1")
    service = service_of("web", state(web=rows), config(), intentions_of([intention("* -> web allow")]), owners)
    claims = claims_of(service, rows, hosts, owners, "host1")
    assert {Address("10.77.0.2", 80): False, Address("fd77::2", 80): True} == {a: c.rank.is_implied for a, c in claims.items()}
    assert not any(claim.is_local for claim in claims.values())
