"""A token for services takes no port that another service holds: whoever got it would be called in its place."""

import pytest

from nodeagent.embedded.access import Caller
from nodeagent.embedded.claims import register_node, register_service
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import Forbidden
from nodeagent.embedded.registration import NodeRow, ServiceRow, TaggedAddress
from nodeagent.embedded.registrations import read_services_of
from nodeagent.embedded.tokens import create_token

ROOT = Caller("root", "management")
VIRTUAL = "10.0.0.100"


@pytest.fixture
def connection(tmp_path):
    """host2 at two addresses, with api on 9090 and, at a virtual address, on 9443."""
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    commit(made, lambda change: register_node(change, ROOT, NodeRow("host2", "", "10.0.0.2", {"lan_ipv6": "fd00::2"})))
    register(made, ROOT, ServiceRow("host2", "api", "api", 9090))
    register(made, ROOT, ServiceRow("host2", "api-v", "api", 9443, VIRTUAL))
    yield made
    made.close()


def register(connection, caller, row):
    commit(connection, lambda change: register_service(change, caller, row))


def token(connection, kind="service", **said):
    usual = {"now": 0.0, "services": ("aaa",), "addresses": (VIRTUAL, "10.0.0.0/24")}
    return commit(connection, lambda change: create_token(change, kind, **(usual | said)))[0].token.caller


TAKEN = {
    "the same port of the host": ServiceRow("host2", "aaa", "aaa", 9090),
    "the host's other address": ServiceRow("host2", "aaa", "aaa", 9090, "fd00::2"),
    "a tagged address with a port": ServiceRow("host2", "aaa", "aaa", 1, tagged={"lan": TaggedAddress("10.0.0.2", 9090)}),
    "a tagged address with the instance's port": ServiceRow("host2", "aaa", "aaa", 9090, VIRTUAL, tagged={"lan": TaggedAddress("10.0.0.2")}),
    "a virtual address": ServiceRow("host2", "aaa", "aaa", 9443, VIRTUAL),
    "the host's port of what is at a virtual address": ServiceRow("host2", "aaa", "aaa", 9443),
    "one address of the host for that": ServiceRow("host2", "aaa", "aaa", 9443, "fd00::2"),
}


@pytest.mark.parametrize("row", TAKEN.values(), ids=TAKEN)
def test_a_port_that_another_service_holds_is_refused_with_both_names_and_a_cure(connection, row):
    with pytest.raises(Forbidden, match=r"may not register aaa at .*: api \(ID api(-v)?\) is registered there; if it is gone .*, deregister it first"):
        register(connection, token(connection), row)
    assert [stored.value.name for stored in read_services_of(connection, "host2")] == ["api", "api"]


def test_an_instance_does_not_move_to_such_a_port(connection):
    caller = token(connection)
    register(connection, caller, ServiceRow("host2", "aaa", "aaa", 7777))
    with pytest.raises(Forbidden, match="at host2:9090"):
        register(connection, caller, ServiceRow("host2", "aaa", "aaa", 9090))


@pytest.mark.parametrize("row", [
    ServiceRow("host2", "aaa", "aaa", 5432), ServiceRow("host2", "aaa", "aaa", 0), ServiceRow("host2", "aaa", "aaa", 9090, VIRTUAL),
    ServiceRow("host2", "api-2", "api", 9090), ServiceRow("host2", "api", "api", 9090, tags=("new",)),
])  # fmt: skip
def test_a_port_that_is_free_or_the_service_s_own_is_not(connection, row):
    """It is for its services wherever they run; another instance of the same service is called by the same name."""
    register(connection, token(connection, services=("aaa", "api")), row)


def test_who_was_first_may_say_so_again(connection):
    """An application that registers itself time and again is not stopped by who came later."""
    caller, row = token(connection), ServiceRow("host2", "aaa", "aaa", 7777)
    register(connection, caller, row)
    register(connection, ROOT, ServiceRow("host2", "late", "late", 7777))
    register(connection, caller, row)
    register(connection, caller, ServiceRow("host2", "aaa", "aaa", 7777, tags=("new",)))


def test_a_token_of_two_services_may_rename_its_instance(connection):
    caller = token(connection, services=("aaa", "bbb"))
    register(connection, caller, ServiceRow("host2", "aaa", "aaa", 7777))
    register(connection, caller, ServiceRow("host2", "aaa", "bbb", 7777))


@pytest.mark.parametrize(("node", "port"), [
    (NodeRow("host2-again", "", "10.0.0.2"), 9090),
    (NodeRow("host2-again", "", "10.0.0.5", {"lan_ipv6": "fd00::2"}), 9443),
    (NodeRow("host3", "", "10.0.0.3", {"lan": VIRTUAL}), 9443),
])  # fmt: skip
def test_a_port_at_an_address_of_two_hosts_is_held_at_either(connection, node, port):
    """A machine may have two names, and a virtual address become one's own."""
    commit(connection, lambda change: register_node(change, ROOT, node))
    with pytest.raises(Forbidden, match=r"\(ID api(-v)? on host2\) is registered there"):
        register(connection, token(connection, addresses=()), ServiceRow(node.name, "aaa", "aaa", port))


def test_at_another_machine_s_address_nothing_else_is_held(connection):
    """The agent where it was registered takes no port for it."""
    commit(connection, lambda change: register_node(change, ROOT, NodeRow("host3", "", "10.0.0.3", {"wan": "10.0.0.33"})))
    register(connection, ROOT, ServiceRow("host2", "far", "far", 7777, "10.0.0.3"))
    register(connection, token(connection), ServiceRow("host2", "aaa", "aaa", 7777))
    with pytest.raises(Forbidden, match="at host3:7777: far"):
        register(connection, token(connection), ServiceRow("host3", "aaa", "aaa", 7777))


def test_an_instance_does_not_move_to_where_its_agent_would_take_such_a_port(connection):
    """It counts as there since it was made, for an agent that saw it nowhere else; a new one may be there, and comes last."""
    caller, row = token(connection), ServiceRow("host2", "aaa", "aaa", 7777, "10.0.0.9")
    register(connection, caller, row)
    register(connection, ROOT, ServiceRow("host2", "late", "late", 5555))
    with pytest.raises(Forbidden, match="at host2:5555: late"):
        register(connection, caller, ServiceRow("host2", "aaa", "aaa", 5555, "10.0.0.9"))
    register(connection, caller, ServiceRow("host2", "aaa-2", "aaa", 5555, "10.0.0.9"))


def test_what_an_agent_would_take_besides_is_not_taken_from_another_host(connection):
    """To agents a service of the machine that has the address goes before one that is registered elsewhere, whoever was first."""
    commit(connection, lambda change: register_node(change, ROOT, NodeRow("host3", "", "10.0.0.3")))
    register(connection, ROOT, ServiceRow("host2", "far", "far", 7777, "10.0.0.3"))
    with pytest.raises(Forbidden, match=r"at host3:7777: far \(ID far on host2\) is registered there"):
        register(connection, token(connection), ServiceRow("host3", "aaa", "aaa", 7777, "10.0.0.77"))


@pytest.mark.parametrize("label", ["wan", "of-our-own"])
def test_what_agents_do_not_heed_holds_nothing_and_is_no_host_s_own(connection, label):
    """To them it is a further address, as a container's, or is not there at all."""
    commit(connection, lambda change: register_node(change, ROOT, NodeRow("host3", "", "10.0.0.3", {label: "10.0.0.33"})))
    register(connection, ROOT, ServiceRow("host2", "far", "far", 7777, "10.0.0.33", tagged={label: TaggedAddress("10.0.0.34", 5555)}))
    register(connection, token(connection), ServiceRow("host2", "aaa", "aaa", 5555))
    with pytest.raises(Forbidden, match="at host2:7777: far"):
        register(connection, token(connection), ServiceRow("host2", "aaa", "aaa", 7777))


def test_a_place_that_became_the_host_s_own_is_not_all_of_the_host(connection):
    """Only what an instance names already may stay as it is: what that means is up to who gives the host its addresses."""
    caller, row = token(connection), ServiceRow("host2", "aaa", "aaa", 7777, "10.0.0.9")
    register(connection, caller, row)
    register(connection, ROOT, ServiceRow("host2", "late", "late", 7777))
    commit(connection, lambda change: register_node(change, ROOT, NodeRow("host2", "", "10.0.0.2", {"lan_ipv6": "fd00::2", "lan_ipv4": "10.0.0.9"})))
    register(connection, caller, ServiceRow("host2", "aaa", "aaa", 7777, "10.0.0.9", tags=("new",)))
    with pytest.raises(Forbidden, match="at host2:7777: late"):
        register(connection, caller, ServiceRow("host2", "aaa", "aaa", 7777))


@pytest.mark.parametrize("caller", ["management", "node"])
def test_who_speaks_for_the_host_may(connection, caller):
    """The agents tell which of both is in force."""
    chosen = ROOT if caller == "management" else token(connection, "node", node="host2", services=("*",), addresses=())
    register(connection, chosen, ServiceRow("host2", "aaa", "aaa", 9090))
