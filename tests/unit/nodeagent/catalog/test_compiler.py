"""What the catalog said, as decisions see it."""

import itertools
import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.catalog.compiler import Capture, capture_of, compile_snapshot, notes_of
from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.config import parse_config
from nodeagent.decide.inbound import decide_plaintext, decide_stream
from nodeagent.decide.outbound import decide_outbound
from nodeagent.decide.route import find_destination
from nodeagent.errors import AgentError
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.intention import Intention
from nodeagent.model.service import Host, Instance
from nodeagent.model.snapshot import Snapshot
from tests.support.mesh import CART, HOST1, HOST2, HOST3, HOSTS, WEB, config, instance, intention, mesh, state


def test_the_snapshot_says_who_where_and_what() -> None:
    """Names, modes, protocols, indexes."""
    said = CatalogState(HOSTS, {"web": (instance(HOST2, 80),), "shop": (instance(HOST1, 9000),)}, (), {"web": "HTTP"}, "grpc")
    snapshot = compile_snapshot(said, config('[service.web]\nmode = "observe"\n'), trust_domain="td", generation=7)
    assert (7, "td", "host1", "strict") == (snapshot.generation, snapshot.mesh.trust_domain, snapshot.mesh.host, snapshot.mesh.mode)
    assert ("http", "observe", "grpc", None) == (
        snapshot.services["web"].protocol, snapshot.services["web"].mode,
        snapshot.services["shop"].protocol, snapshot.services["shop"].mode,
    )  # fmt: skip
    assert "web" == snapshot.by_address[WEB].service.name
    assert {9000} == set(snapshot.local_by_port)
    assert HOST2 == snapshot.host_by_ip["fd77::2"]


def test_intentions_are_sorted_by_what_they_decide() -> None:
    """By destination; exact sources first, deny before allow, each once; wildcards are the mesh's."""
    snapshot = mesh("* -> web allow", "shop -> web allow", "shop -> web deny", "shop -> web allow", "* -> * deny", "shop -> * allow")
    assert [("shop", "deny"), ("shop", "allow"), ("*", "allow")] == [(i.source, i.action) for i in snapshot.services["web"].intentions]
    assert (Intention("shop", "*", "allow"), Intention("*", "*", "deny")) == snapshot.wildcards


def test_a_service_is_known_by_an_intention_alone() -> None:
    """A policy can be written, and checked, before the first instance is there."""
    assert () == mesh("shop -> later allow").services["later"].instances


def test_the_order_of_the_rows_is_no_matter() -> None:
    """The same facts, shuffled: the same snapshot."""
    chance = random.Random(5)
    said = state("* -> web allow", "shop -> web deny", "shop -> * allow", aaa=(instance(HOST2, 80), instance(HOST3, 80)))
    one = compile_snapshot(said, config(), trust_domain="td", generation=1)
    for _ in range(20):
        rows = list(said.instances.items())
        shuffled = CatalogState(
            tuple(chance.sample(said.hosts, 3)),
            {name: tuple(chance.sample(found, len(found))) for name, found in chance.sample(rows, len(rows))},
            tuple(chance.sample(said.intentions, 3)),
        )
        assert one == compile_snapshot(shuffled, config(), trust_domain="td", generation=1)


def test_names_that_no_service_can_have_are_left_out_and_noted() -> None:
    """The rest of the mesh is not held up by one bad name."""
    said = CatalogState(HOSTS, {"*": (instance(HOST2, 81),), "web": (instance(HOST2, 80),)}, (), {"web": "smtp"})
    snapshot = compile_snapshot(said, config(), trust_domain="td", generation=1)
    assert ["web"] == list(snapshot.services)
    assert "tcp" == snapshot.services["web"].protocol
    assert ("web: protocol 'smtp' is not known: taken as tcp", "'*' cannot be a service's name: left out") == notes_of(said)


def test_what_an_entry_could_not_keep_is_noted() -> None:
    """For log and check."""
    assert ("n",) == notes_of(CatalogState(intentions=(IntentionRow("a", "b", "deny", "n"), IntentionRow("c", "b", "allow"))))


MEETINGS = [
    # what else is registered at web's address, and who decides there
    ({"aaa": (instance(HOST2, 80),)}, "aaa"),
    ({"zzz": (instance(HOST2, 80),)}, "web"),
    ({"aaa": (instance(HOST2, 80, healthy=False),)}, "aaa"),
    ({"aaa": (instance(HOST2, 80, since=9),), "web": (instance(HOST2, 80, healthy=False, since=8),)}, "web"),
    ({"aaa": (instance(HOST3, 80, ips=("10.77.0.2",)),)}, "web"),
    ({"aaa": (instance(HOST1, 80, ips=("10.77.0.2",)),)}, "web"),
    ({"aaa": (instance(HOST3, 80, ips=("10.77.0.2",)),), "web": (instance(HOST2, 80, healthy=False),)}, "web"),
]


@pytest.mark.parametrize(("others", "service"), MEETINGS)
def test_two_claims_to_one_address_are_decided_in_one_way(others: dict, service: str) -> None:
    """The owner of the address, then this host, then who came first, then the name; never by health."""
    assert service == mesh(**others).by_address[WEB].service.name


def test_an_address_that_several_machines_have_is_this_one_s() -> None:
    """A bridge's address is the same on each host: 172.17.0.1 means ours."""
    shared = ("172.17.0.1",)
    snapshot = mesh(aaa=(instance(HOST2, 99, ips=shared),), zzz=(instance(HOST1, 99, ips=shared),))
    assert "zzz" == snapshot.by_address[Address("172.17.0.1", 99)].service.name


def test_one_port_for_two_local_services_means_the_one_that_was_registered_first() -> None:
    """At local addresses that are not registered exactly."""
    two = {"b": (instance(HOST1, 99, ips=("10.77.0.1",)),), "a": (instance(HOST1, 99, ips=("fd77::1",)),)}
    assert "a" == mesh(**two).local_by_port[99].service.name
    two["a"] = (instance(HOST1, 99, ips=("fd77::1",), healthy=False),)
    assert "a" == mesh(**two).local_by_port[99].service.name
    two["a"] = (instance(HOST1, 99, ips=("fd77::1",), since=1),)
    assert "b" == mesh(**two).local_by_port[99].service.name


def test_this_host_has_the_addresses_of_its_configuration() -> None:
    """Nobody else can take them by registering a node, nor give it others."""
    liar = Host("liar", ("10.77.0.1", "10.77.0.9"), 15008)
    mine = Host("host1", ("10.77.0.2",), 15008)
    said = CatalogState((liar, mine, HOST2), {})
    snapshot = compile_snapshot(said, config(), trust_domain="td", generation=1)
    owners = {ip: host.name for ip, host in snapshot.host_by_ip.items()}
    assert {"10.77.0.1": "host1", "fd77::1": "host1", "10.77.0.2": "host2", "fd77::2": "host2", "10.77.0.9": "liar"} == owners
    assert HOST1 == snapshot.hosts["host1"]


def test_an_address_of_two_hosts_is_the_meshed_one_s() -> None:
    """Clear text must not reach a meshed host because an old node entry lacks the marker."""
    said = CatalogState((Host("a-old", ("10.77.0.2",), 0), HOST2), {})
    assert HOST2 == compile_snapshot(said, config(), trust_domain="td", generation=1).host_by_ip["10.77.0.2"]


def test_an_agent_that_only_a_health_answer_shows_counts() -> None:
    """Two answers of the catalog are never quite of one moment: meanwhile nothing goes there in clear."""
    unmarked = Host("host2", HOST2.addresses, 0)
    for hosts in ((unmarked,), ()):
        said = CatalogState(hosts, {"web": (instance(HOST2, 80),)})
        assert HOST2 == compile_snapshot(said, config(), trust_domain="td", generation=1).hosts["host2"]


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1"])
def test_addresses_that_mean_another_machine_to_everyone_are_nobody_s(ip: str) -> None:
    """A registration on loopback is reachable on its own host alone."""
    other = Host("h", (ip, "10.77.0.9"), 0)
    said = CatalogState((other,), {"far": (instance(other, 99),), "near": (instance(HOST1, 98, ips=(ip,)),)})
    snapshot = compile_snapshot(said, config(), trust_domain="td", generation=1)
    assert ip not in snapshot.host_by_ip
    assert (Address("10.77.0.9", 99),) == snapshot.services["far"].instances[0].addresses
    assert "near" == snapshot.by_address[Address(ip, 98)].service.name == snapshot.local_by_port[98].service.name


def test_a_local_registration_at_another_machine_s_address_opens_no_local_port() -> None:
    """host1 cannot answer for an address of host2."""
    assert {7000, 9000} == set(mesh(far=(instance(HOST1, 5000, ips=("10.77.0.2",)),)).local_by_port)


def test_captured_are_the_other_hosts_foreign_instances_and_local_ports() -> None:
    """Not this host's own addresses, which the kernel knows as local."""
    extra = {"db": (instance(HOST2, 5432, ips=("10.99.0.2",)),), "own": (instance(HOST1, 77, ips=("10.99.0.1",)),)}
    others = (*HOST2.addresses, *HOST3.addresses, "10.99.0.2")
    assert Capture(tuple(sorted(others)), (77, 7000, 9000)) == capture_of(mesh(**extra))


def test_captured_on_loopback_are_the_ports_of_services_that_say_so() -> None:
    """Of this host's; what is registered elsewhere has no loopback here."""
    extra = """
    [service.own]
    loopback = "enforce"
    [service.db]
    loopback = "enforce"
    """
    own = CatalogState((HOST1, HOST2), {"own": (instance(HOST1, 77),), "db": (instance(HOST2, 5432),), "a": (instance(HOST1, 78),)})
    snapshot = compile_snapshot(own, config(extra), trust_domain="td", generation=1)
    assert ((77, 78), (77,)) == capture_of(snapshot)[1:]


@pytest.mark.parametrize("enforced", ["alpha", "zeta"])
def test_a_port_of_several_services_is_captured_on_loopback_for_any_of_them(enforced: str) -> None:
    """Whichever is found by the port."""
    both = {"alpha": (instance(HOST1, 77, ips=("10.77.0.1",)),), "zeta": (instance(HOST1, 77, ips=("127.0.0.1",), id_="z"),)}
    assert capture_of(mesh(extra=f'[service.{enforced}]\nloopback = "enforce"\n', **both)).loopback_ports == (77,)


def test_a_claim_to_this_host_s_address_is_not_captured_as_foreign() -> None:
    """Whoever registers a service at our address does not send our own traffic elsewhere."""
    snapshot = mesh(evil=(instance(HOST2, 1234, ips=("10.77.0.1",)),))
    assert "10.77.0.1" not in capture_of(snapshot).addresses
    assert CART in snapshot.by_address


def test_instances_without_addresses_are_kept_for_the_listing() -> None:
    """They are registered, and nobody can be sent there."""
    row = InstanceRow(Instance("x", "host2", ()), HOST2)
    assert "x" == mesh(nowhere=(row,)).services["nowhere"].instances[0].id


def test_intentions_in_words_are_rows() -> None:
    """The tests' own shorthand says what it seems to say."""
    assert IntentionRow("a", "*", "deny") == intention("a -> * deny")


@pytest.mark.parametrize("ip", ["10.77.0.2", "fd77::2", "10.99.0.2", "127.0.0.1"])
def test_a_port_registered_at_one_address_is_the_service_s_at_each_of_a_host_with_an_agent(ip: str) -> None:
    """Its kernel captures the port at all of them: also where it was registered at a further address, or at loopback."""
    snapshot = mesh(one=(instance(HOST2, 99, ips=(ip,)),))
    assert {Address(own, 99) for own in HOST2.addresses} <= {a for a, found in snapshot.by_address.items() if found.service.name == "one"}
    assert {Address(ip, 99)} - {Address("127.0.0.1", 99)} == set(snapshot.services["one"].instances[0].addresses)


def test_without_an_agent_a_registration_counts_where_it_was_made() -> None:
    """Nobody captures anything there."""
    snapshot = mesh(one=(instance(HOST3, 99, ips=("10.77.0.3",)),))
    assert Address("fd77::3", 99) not in snapshot.by_address


def test_what_is_registered_at_an_address_goes_before_what_is_implied_there() -> None:
    """Two services may share a port at different addresses."""
    two = {"a": (instance(HOST2, 99, ips=("10.77.0.2",)),), "z": (instance(HOST2, 99, ips=("fd77::2",), healthy=False),)}
    assert "z" == mesh(**two).by_address[Address("fd77::2", 99)].service.name


def test_a_registration_at_another_machine_s_address_implies_nothing() -> None:
    """The agent where it was made does not take the port."""
    assert Address("fd77::2", 99) not in mesh(far=(instance(HOST2, 99, ips=("10.77.0.3",)),)).by_address


NAMES = ("a", "b", "c")
IPS = ("10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "10.0.0.3", "fd00::3")
PLACES = (*IPS, "10.99.0.9", "127.0.0.1")
"""Of hosts; of nobody; of everybody."""
SHARED = (("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), ("10.0.0.2", "10.0.0.3"))

addresses_of = st.lists(st.sampled_from(IPS), min_size=1, max_size=3, unique=True).map(tuple)
hosts_of = st.tuples(st.tuples(addresses_of, addresses_of, addresses_of), st.tuples(*[st.sampled_from((15008, 0))] * 3)).map(
    lambda both: tuple(Host(name, ips, port) for name, ips, port in zip(NAMES, *both, strict=True))
)
claims_of = st.lists(
    st.tuples(st.sampled_from(("one", "two")), st.sampled_from(range(3)), st.sampled_from((80, 81)), st.sets(st.sampled_from(PLACES), min_size=1), st.booleans()),
    max_size=5,
)  # fmt: skip
Claim = tuple[str, int, int, set[str], bool]


def seen_by(host: Host, said: CatalogState) -> Snapshot:
    """As this host's agent compiles it."""
    own = f'[host]\nname = "{host.name}"\naddresses = {list(host.addresses)}\n[catalog]\naddress = "https://10.9.9.9:8501"\n'
    return compile_snapshot(said, parse_config(own, "test.toml"), trust_domain="td", generation=1)


@given(hosts_of, claims_of)
@example(tuple(Host(name, ips, 15008) for name, ips in zip(NAMES, SHARED, strict=True)), [("one", 2, 80, {"10.0.0.3"}, True)])
@example(tuple(Host(name, ips, 15008) for name, ips in zip(NAMES, SHARED, strict=True)), [("one", 2, 80, {"10.0.0.2"}, True)])
def test_what_a_callee_captures_is_what_its_callers_tunnel(hosts: tuple[Host, ...], claims: list[Claim]) -> None:
    """At each address of a host with an agent: nothing in clear that it would refuse, and by the same name at both ends.

    Where two hosts have one address, whoever is not its owner may be called in vain, but not in clear.
    """
    rows = {
        name: tuple(
            instance(hosts[at], port, ips=tuple(sorted(ips)), healthy=healthy, id_=str(number))
            for number, (service, at, port, ips, healthy) in enumerate(claims) if service == name
        )
        for name in ("one", "two")
    }  # fmt: skip
    said = CatalogState(hosts, rows, (intention("* -> * allow"),))
    for caller, callee in itertools.permutations(hosts, 2):
        here, there = seen_by(caller, said), seen_by(callee, said)
        for ip in set(callee.addresses) - set(caller.addresses) if callee.tunnel_port else ():
            is_shared = sum(ip in host.addresses for host in hosts) > 1
            for port in (80, 81):
                dst = OriginalDst(Address(ip, port))
                called = way_of(here, dst)
                if port in capture_of(there).ports:
                    assert called in ("refused", "tunnel")
                found = here.by_address.get(dst)
                if not is_shared and found and found.instance.host == callee.name:
                    assert port in capture_of(there).ports
                    assert is_taken(there, found.service.name, dst)


def way_of(snapshot: Snapshot, dst: OriginalDst) -> str:
    """How a known caller is sent there, in strict mode."""
    try:
        return decide_outbound(snapshot, "shop", find_destination(snapshot, dst, dst_is_local=False)).path
    except AgentError:
        return "refused"


def is_taken(snapshot: Snapshot, service: str, dst: OriginalDst) -> bool:
    """Whether a stream for the service gets there, and clear text does not."""
    with pytest.raises(AgentError, match=f"arrived at {service} "):
        decide_plaintext(snapshot, dst)
    return decide_stream(snapshot, "shop", service, dst).path == "local"


def test_who_decides_knows_whether_news_may_be_late() -> None:
    late = msgspec.structs.replace(state(), is_late=True)
    snapshots = [compile_snapshot(each, config(), trust_domain="td", generation=1) for each in (state(), late)]
    assert [snapshot.mesh.is_late for snapshot in snapshots] == [False, True]
    assert snapshots[0].services == snapshots[1].services
