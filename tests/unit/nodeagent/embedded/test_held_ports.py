"""A token for services takes no port that another service holds: whoever got it would be called in its place."""

import functools
import itertools
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.state import MARKER, CatalogState, parse_hosts, parse_instances
from nodeagent.config import parse_config
from nodeagent.embedded.access import Caller
from nodeagent.embedded.answers import health_json, node_json
from nodeagent.embedded.claims import register_node, register_service
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import Forbidden, Refusal
from nodeagent.embedded.registration import NodeRow, ServiceRow, TaggedAddress
from nodeagent.embedded.registrations import read_instances, read_nodes, read_services_of
from nodeagent.embedded.tokens import create_token

ROOT = Caller("root", "management")
VIRTUAL = "10.0.0.100"


@pytest.fixture
def connection(tmp_path):
    """host2 at two addresses, with api on 9090 and, at a virtual address, on 9443."""
    made = empty(tmp_path)
    commit(made, lambda change: register_node(change, ROOT, NodeRow("host2", "", "10.0.0.2", {"lan_ipv6": "fd00::2"})))
    register(made, ROOT, ServiceRow("host2", "api", "api", 9090))
    register(made, ROOT, ServiceRow("host2", "api-v", "api", 9443, VIRTUAL))
    yield made
    made.close()


def empty(directory):
    made = open_database(directory / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    return made


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


IPS = ("10.0.0.1", "10.0.0.2", "fd00::2", "172.17.0.5")
AGENT = {MARKER: "15008;v1"}
ips, hosts, labels = map(st.sampled_from, (IPS, ("a", "b"), ("lan", "lan_ipv6", "wan", "odd")))
node_rows = st.builds(lambda name, ip, tagged: NodeRow(name, "", ip, tagged, AGENT), hosts, ips, st.dictionaries(labels, ips, max_size=1))
tags = st.dictionaries(labels, st.builds(TaggedAddress, ips, st.sampled_from((0, 80, 81))), max_size=1)


def rows_of(*names):
    ids, ports, places = map(st.sampled_from, ("12", (80, 81), ("", *IPS)))
    return st.builds(
        lambda node, name, id_, port, ip, tagged: ServiceRow(node, name + id_, name, port, ip, tagged=tagged),
        hosts, st.sampled_from(names), ids, ports, places, tags,
    )  # fmt: skip


own, others, moved = st.lists(rows_of("aaa"), max_size=2), st.lists(rows_of("api", "db"), min_size=1, max_size=3), st.lists(node_rows, max_size=2)


@given(st.tuples(own, others, moved, own).map(itertools.chain.from_iterable).map(tuple))
def test_whatever_such_a_token_registers_nobody_else_is_called_by_another_name(said):
    """At no address and port, as each host's agent sees it and a caller's; the others' rows are an operator's."""
    with tempfile.TemporaryDirectory() as directory:
        made = empty(Path(directory))
        made.execute("PRAGMA synchronous = OFF")
        caller = token(made, addresses=("0.0.0.0/0", "::/0"))
        for row in (NodeRow("a", "", IPS[0], {}, AGENT), NodeRow("b", "", IPS[1], {}, AGENT), *said):
            others = {place: name for place, name in called(made).items() if name != "aaa"}.items()
            try:
                commit(made, functools.partial(write, row, caller))
            except Refusal:
                continue
            assert not (isinstance(row, ServiceRow) and row.name == "aaa") or others <= called(made).items()
        made.close()


def write(row, caller, change):
    if isinstance(row, NodeRow):
        return register_node(change, ROOT, row)
    return register_service(change, caller if row.name == "aaa" else ROOT, row)


def called(connection):
    """By which name whom each agent has at each place; at a port of its own with the empty address."""
    hosts = parse_hosts(msgspec.json.encode([node_json(stored, "dc1") for stored in read_nodes(connection)]))
    answers = {name: [health_json(*both, [], "dc1") for both in read_instances(connection, name)] for name in ("aaa", "api", "db")}
    state = CatalogState(hosts, {name: parse_instances(name, msgspec.json.encode(rows)) for name, rows in answers.items()})
    found = {}
    for name, own in (*((host.name, host.addresses) for host in hosts), ("far", ("10.5.5.5",))):
        config = parse_config(f'[host]\nname = "{name}"\naddresses = {list(own)}\n[catalog]\naddress = "https://10.9.9.9:1"\n', "t")
        snapshot = compile_snapshot(state, config, trust_domain="td", generation=1)
        found |= {(name, str(address)): at.service.name for address, at in snapshot.by_address.items()}
        found |= {(name, str(port)): at.service.name for port, at in snapshot.local_by_port.items()}
    return found
