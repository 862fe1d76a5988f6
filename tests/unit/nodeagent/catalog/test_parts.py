"""One host, one service, its claims."""

from msgspec.structs import replace

from nodeagent.catalog.parts import best_owners, host_of, intentions_of, shown_by
from nodeagent.model.service import Host
from tests.support.by_request import ADMIN_NOT, row_of
from tests.support.mesh import HOST2, HOST3, config, instance


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


def test_of_two_words_about_the_requests_of_a_pair_neither_is_taken() -> None:
    """In whatever order they came: a deny stands before both."""
    rows = row_of("shop", "web"), row_of("shop", "web", ADMIN_NOT[1]), row_of("cart", "web")
    for some in (rows, rows[::-1]):
        found = intentions_of(some)["web"]
        assert [("cart", "by request"), ("shop", "deny"), ("shop", "by request")] == [(row.source, row.word) for row in found[:3]]


def test_a_row_that_is_gone_says_of_its_machine_that_it_had_an_agent_and_not_where() -> None:
    row = instance(HOST2, 80)
    assert HOST2 == shown_by(row)
    assert Host("host2", (), 15008) == shown_by(replace(row, instance=replace(row.instance, gone=True)))
