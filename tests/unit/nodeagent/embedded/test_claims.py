"""Whose an address is: nobody draws another's traffic to himself, and nobody keeps an owner from what is his."""

import pytest

from nodeagent.embedded.access import FIRST, MANAGED, Caller
from nodeagent.embedded.claims import holders_of, register_node, register_service
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import Forbidden
from nodeagent.embedded.registration import NodeRow, ServiceRow, TaggedAddress
from nodeagent.embedded.registrations import delete_node, delete_service, read_node, read_nodes, read_services_of
from nodeagent.embedded.tokens import create_token, delete_token, read_token

ROOT = Caller("root", "management")


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    yield made
    made.close()


@pytest.fixture
def token(connection):
    def make(node, *addresses):
        said = {"now": 0.0, "node": node, "services": ("*",), "addresses": addresses}
        return commit(connection, lambda change: create_token(change, "node", **said))[0].token.caller

    return make


def host(connection, caller, *ips, node=""):
    tagged = {str(number): ip for number, ip in enumerate(ips[1:])}
    row = NodeRow(node or caller.node, "", ips[0], tagged)
    return commit(connection, lambda change: register_node(change, caller, row))[0]


def service(connection, caller, ip, name="db", node=""):
    row = ServiceRow(node or caller.node, name, name, 5432, ip)
    return commit(connection, lambda change: register_service(change, caller, row))[0]


def names(connection):
    return [stored.value.name for stored in read_nodes(connection)]


def test_a_first_registration_fixes_the_addresses_of_an_unnamed_token(connection, token):
    caller = token("a")
    host(connection, caller, "10.0.0.1", "fd00::1")
    assert read_token(connection, caller.accessor).caller.fixed == ("10.0.0.1", "fd00::1")
    host(connection, caller, "10.0.0.1")
    with pytest.raises(Forbidden, match=r"may not claim 10\.0\.0\.9: it is for 10\.0\.0\.1, fd00::1"):
        host(connection, caller, "10.0.0.1", "10.0.0.9")
    assert read_token(connection, caller.accessor).caller.fixed == ("10.0.0.1", "fd00::1")


def test_a_token_of_its_own_names_is_not_fixed_by_its_first_registration(connection, token):
    caller = token("a", "10.0.0.1", "fd00::/64")
    host(connection, caller, "10.0.0.1")
    host(connection, caller, "10.0.0.1", "fd00::5")
    with pytest.raises(Forbidden, match=r"it is for 10\.0\.0\.1, fd00::/64"):
        host(connection, caller, "10.0.0.2")


def test_services_are_at_their_hosts_addresses_or_at_named_ones(connection, token):
    caller = token("a")
    host(connection, caller, "10.0.0.1", "fd00::1")
    service(connection, caller, "")
    service(connection, caller, "fd00::1")
    for stranger in ("8.8.8.8", "127.0.0.1"):
        with pytest.raises(Forbidden, match=f"may not claim {stranger}"):
            service(connection, caller, stranger)
    service(connection, token("a", "10.0.0.100"), "10.0.0.100")
    service(connection, ROOT, "10.0.0.101", node="a")


def test_a_tagged_address_is_a_claim_too(connection, token):
    caller = token("a")
    host(connection, caller, "10.0.0.1")
    row = ServiceRow("a", "web", "web", 80, tagged={"lan": TaggedAddress("10.0.0.100")})
    with pytest.raises(Forbidden, match=r"may not claim 10\.0\.0\.100"):
        commit(connection, lambda change: register_service(change, caller, row))


def test_a_service_alone_does_not_fix_a_token(connection, token):
    """An operator registered the host: its token may name its services there, and nothing else."""
    host(connection, ROOT, "10.0.0.1", node="a")
    caller = token("a")
    service(connection, caller, "10.0.0.1")
    with pytest.raises(Forbidden, match="the addresses of its host"):
        service(connection, caller, "10.0.0.2")


def test_who_came_second_is_refused(connection, token):
    host(connection, token("a"), "10.0.0.1")
    with pytest.raises(Forbidden, match=r"10\.0\.0\.1: it belongs to a; .* give b a token made with --address"):
        host(connection, token("b"), "10.0.0.1")
    assert names(connection) == ["a"]


def test_a_service_of_another_host_holds_its_address(connection, token):
    """The address of b's service is no node's: yet a cannot take it, neither as its own nor for a service."""
    first, second = token("b", "10.0.0.0/24"), token("a", "10.0.0.0/24")
    host(connection, first, "10.0.0.2")
    service(connection, first, "10.0.0.100")
    host(connection, second, "10.0.0.1")
    for claim in (lambda: host(connection, second, "10.0.0.100"), lambda: service(connection, second, "10.0.0.100")):
        with pytest.raises(Forbidden, match="it belongs to b"):
            claim()


def test_an_intruder_cannot_block_what_a_token_names(connection, token):
    """He comes first with the address of a host that is not enrolled yet, and with a service at another's."""
    host(connection, token("aaa"), "10.0.0.3")
    owner = token("c", "10.0.0.3", "10.0.0.100")
    wide = token("b", "10.0.0.0/16")
    host(connection, wide, "10.0.0.2")
    service(connection, wide, "10.0.0.100", "web")
    assert [(holder.node, holder.title) for holder in host(connection, owner, "10.0.0.3")] == [("aaa", FIRST)]
    assert [str(holder) for holder in service(connection, owner, "10.0.0.100")] == ["10.0.0.100 of service web on b"]
    assert names(connection) == ["b", "c"]
    assert read_services_of(connection, "b") == []
    assert [(h.node, h.title) for h in holders_of(connection, "10.0.0.3", besides="")] == [("c", 33)]


def test_what_management_registered_stays(connection, token):
    host(connection, ROOT, "10.0.0.1", node="a")
    with pytest.raises(Forbidden, match="it belongs to a"):
        host(connection, token("b", "10.0.0.1"), "10.0.0.1")
    assert [holder.title for holder in holders_of(connection, "10.0.0.1", besides="b")] == [MANAGED]


def test_management_may_give_one_address_to_two_hosts(connection, token):
    caller = token("a")
    host(connection, caller, "10.0.0.1")
    assert host(connection, ROOT, "10.0.0.2", node="b") == []
    assert service(connection, ROOT, "10.0.0.1", node="b") == []
    assert service(connection, ROOT, "10.0.0.100", node="a") == []
    assert service(connection, ROOT, "10.0.0.100", node="b") == []
    assert read_node(connection, "a") is not None


def test_claims_go_with_what_made_them(connection, token):
    caller = token("a", "10.0.0.0/24")
    host(connection, caller, "10.0.0.1", "10.0.0.9")
    service(connection, caller, "10.0.0.100")
    host(connection, caller, "10.0.0.1")
    assert holders_of(connection, "10.0.0.9", besides="") == []
    commit(connection, lambda change: delete_service(change, "a", "db"))
    assert holders_of(connection, "10.0.0.100", besides="") == []
    service(connection, caller, "10.0.0.100")
    commit(connection, lambda change: delete_node(change, "a"))
    assert holders_of(connection, "10.0.0.1", besides="") + holders_of(connection, "10.0.0.100", besides="") == []


def test_a_token_that_was_revoked_meanwhile_claims_nothing(connection, token):
    caller = token("a")
    commit(connection, lambda change: delete_token(change, caller.accessor, 0.0))
    with pytest.raises(Forbidden, match="revoked"):
        host(connection, caller, "10.0.0.1")


def test_the_same_again_writes_nothing(connection, token):
    caller = token("a")
    for _ in range(2):
        before = connection.total_changes
        host(connection, caller, "10.0.0.1")
        service(connection, caller, "10.0.0.1")
    assert connection.total_changes == before


def test_two_first_registrations_at_once_are_one(connection, token):
    """Both were authenticated before either was stored."""
    caller = token("a")
    host(connection, caller, "10.0.0.1")
    assert caller.is_unbound
    with pytest.raises(Forbidden, match=r"may not claim 10\.0\.0\.2"):
        host(connection, caller, "10.0.0.2")


def test_a_services_token_takes_nothing_from_others(connection, token):
    """Its addresses are a network in which hosts came first, and others' services are."""
    made = commit(connection, lambda change: create_token(change, "service", now=0.0, services=("web",), addresses=("10.0.0.0/24",)))
    caller = made[0].token.caller
    host(connection, token("a"), "10.0.0.1")
    host(connection, token("b"), "10.0.0.2")
    service(connection, ROOT, "10.0.0.100", node="b")
    for taken in ("10.0.0.2", "10.0.0.100"):
        with pytest.raises(Forbidden, match=f"the token for web may not claim {taken}: it belongs to b"):
            service(connection, caller, taken, "web", node="a")
    service(connection, caller, "10.0.0.50", "web", node="a")
    assert names(connection) == ["a", "b"]
    assert [row.value.name for row in read_services_of(connection, "b")] == ["db"]
