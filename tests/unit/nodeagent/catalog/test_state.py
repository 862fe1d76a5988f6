"""What the catalog says, parsed."""

import json

import pytest

from nodeagent import limits
from nodeagent.catalog import state
from nodeagent.catalog.state import IntentionRow
from nodeagent.errors import CatalogError
from nodeagent.model.address import Address
from nodeagent.model.service import Host

NODE = {
    "ID": "40e4a748-2192-161a-0510-9bf59fe950b5",
    "Node": "host2",
    "Address": "10.77.0.2",
    "Datacenter": "dc1",
    "TaggedAddresses": {"lan": "10.77.0.2", "lan_ipv4": "10.77.0.2", "lan_ipv6": "fd77::2", "wan": "192.0.2.2"},
    "Meta": {"nodeagent": "15008;v1", "consul-network-segment": ""},
}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


def health(status: str = "passing", node: object = None, **service: object) -> bytes:
    checks = [{"Status": "passing", "CheckID": "serfHealth"}, {"Status": status}]
    return body([{"Node": node or NODE, "Service": {"ID": "web-1", "Service": "web", "Port": 80, **service}, "Checks": checks}])


def test_a_host_has_its_lan_addresses_and_its_agent_s_port() -> None:
    """Canonical, IPv4 first, each once; sorted by name."""
    rows = [NODE, {"Node": "a", "Address": "FD77::9", "TaggedAddresses": None, "Meta": None}]
    assert (Host("a", ("fd77::9",), 0), Host("host2", ("10.77.0.2", "fd77::2"), 15008)) == state.parse_hosts(body(rows))
    assert () == state.parse_hosts(b"null")


@pytest.mark.parametrize("odd", [{"Port": 70000}, {"Address": "a b!"}, {"TaggedAddresses": {"lan": {"Address": "a b!", "Port": 1}}}])
def test_an_odd_row_of_one_agent_keeps_no_other_s_news_away(odd: dict[str, object]) -> None:
    """Each agent's token may write one, and Consul takes it."""
    good, bad = (json.loads(health(node=NODE | {"Node": name}, Port=15008, Meta=NODE["Meta"]))[0] for name in ("host1", "host2"))
    bad["Service"] |= odd
    rows = state.parse_instances(state.MARKER_SERVICE, body([bad, good]))
    assert [(row.host.name, row.host.tunnel_port) for row in rows] == [("host1", 15008)]


@pytest.mark.parametrize(
    ("marker", "port"),
    [
        ("15008;v1", 15008), ("443;v1;zone=b", 443), ("0;v1", 0), ("65536;v1", 0), ("15008", 0), ("15008;v2", 0),
        ("15008;v12", 0), ("", 0), ("x;v1", 0), ("-1;v1", 0), ("\uff11\uff15;v1", 0), ("99999999999;v1", 0),
    ],
)  # fmt: skip
def test_a_marker_that_is_none_is_no_agent(marker: str, port: int) -> None:
    """Only the version that this agent speaks counts."""
    assert port == state.tunnel_port_of(marker)


def test_service_names_that_no_certificate_can_carry_are_left_out() -> None:
    """A name is a part of an SNI and of a SPIFFE ID."""
    names = {"web": ["v1"], "consul": [], "shop": None, "*": [], "": [], "a b": [], "../x": [], "n" * 200: []}
    assert ("shop", "web") == state.parse_service_names(body(names))


def test_names_that_are_left_out_are_known() -> None:
    """Such services are called past the mesh: somebody must be told."""
    assert ("Web", "a b") == state.parse_unusable_names(body({"web": [], "a b": [], "Web": None}))
    assert () == state.parse_unusable_names(b"null")


@pytest.mark.parametrize(
    ("tag", "counts"),
    [("lan", True), ("lan_ipv4", True), ("lan_ipv6_2", True), ("lan_ipv4_15", True), ("wan", False), ("lan_2", False), ("lan_ipv4_x", False),
     ("lan_ipv4_2\n", False)],
)  # fmt: skip
def test_addresses_of_the_lan_count_however_many_there_are(tag: str, counts: object) -> None:
    """And those of any other kind do not."""
    assert state.is_lan_tag(tag) is counts


@pytest.mark.parametrize(
    ("service", "addresses"),
    [
        ({}, [("10.77.0.2", 80), ("fd77::2", 80)]),
        ({"Address": "10.9.9.9"}, [("10.9.9.9", 80)]),
        ({"Address": "web.example.com"}, [("10.77.0.2", 80), ("fd77::2", 80)]),
        ({"Address": "10.9.9.9", "TaggedAddresses": {"lan_ipv6": {"Address": "fd99::9", "Port": 8080}, "wan": {"Address": "192.0.2.1", "Port": 1}}},
         [("10.9.9.9", 80), ("fd99::9", 8080)]),
        ({"Address": "10.9.9.9", "TaggedAddresses": {"lan_ipv4": {"Address": "10.9.9.9", "Port": 80}, "virtual": {"Address": "240.0.0.1", "Port": 80}}},
         [("10.9.9.9", 80)]),
        ({"TaggedAddresses": {"lan_ipv4": {"Address": "10.9.9.8"}}}, [("10.77.0.2", 80), ("10.9.9.8", 80), ("fd77::2", 80)]),
        ({"Port": 0}, []),
    ],
)  # fmt: skip
def test_an_instance_listens_at_its_own_addresses_or_at_its_machine_s(service: dict, addresses: list) -> None:
    """Own, tagged for the LAN, or all of the node's; nothing where no port is registered."""
    (row,) = state.parse_instances("web", health(**service))
    assert tuple(Address(*a) for a in addresses) == row.instance.addresses
    assert ("web-1", "host2", Host("host2", ("10.77.0.2", "fd77::2"), 15008)) == (row.instance.id, row.instance.host, row.host)


@pytest.mark.parametrize(("status", "healthy"), [("passing", True), ("warning", True), ("critical", False)])
def test_a_critical_check_makes_an_instance_unhealthy(status: str, healthy: bool) -> None:  # noqa: FBT001 - a table's column
    """As Consul's `passing` filter with warnings taken."""
    assert healthy == state.parse_instances("web", health(status))[0].instance.healthy


@pytest.mark.parametrize(("status", "weight"), [("passing", 10), ("warning", 2), ("critical", 10)])
def test_a_warning_has_a_weight_of_its_own(status: str, weight: int) -> None:
    """As Consul's DNS has it; an instance in a critical state is not healthy, whatever it weighs."""
    assert weight == state.parse_instances("web", health(status, Weights={"Passing": 10, "Warning": 2}))[0].instance.weight


@pytest.mark.parametrize(("status", "healthy"), [("passing", True), ("warning", False)])
def test_who_weighs_nothing_gets_nothing(status: str, healthy: bool) -> None:  # noqa: FBT001 - a table's column
    """As in Consul's own mesh: a registration over HTTP that says only the weight of passing has 0 for a warning."""
    assert healthy == state.parse_instances("web", health(status, Weights={"Passing": 10, "Warning": 0}))[0].instance.healthy


@pytest.mark.parametrize(("kind", "count"), [("", 1), ("typical", 1), ("connect-proxy", 0), ("mesh-gateway", 0), ("terminating-gateway", 0)])
def test_proxies_of_consuls_own_mesh_are_no_instances(kind: str, count: int) -> None:
    """They speak TLS of their own: captured, their callers would be refused as clear text of nobody known."""
    assert count == len(state.parse_instances("web-sidecar-proxy", health(Kind=kind)))


@pytest.mark.parametrize(("weights", "weight"), [(None, 1), ({"Passing": 10, "Warning": 1}, 10), ({"Passing": -3}, 0), ({"Passing": 10**9}, limits.WEIGHT_MAX)])
def test_a_weight_is_kept_within_consul_s_bounds(weights: object, weight: int) -> None:
    """1 where none is given."""
    assert weight == state.parse_instances("web", health(Weights=weights))[0].instance.weight


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ({"Port": 70000}, r"/v1/health/service/web: \$\[0\]\.Service\.Port is 70000"),
        ({"Port": "80"}, r"\$\[0\]\.Service\.Port is '80'"),
        ({"Port": 80.5}, r"\$\[0\]\.Service\.Port is 80\.5"),
        ({"Address": "10.0.0.300"}, r"\$\[0\]\.Service\.Address is '10\.0\.0\.300'"),
        ({"ID": "a\x00b"}, r"\$\[0\]\.Service\.ID is "),
        ({"TaggedAddresses": {"lan_ipv4": {"Address": "1.2.3.4", "Port": -1}}}, r"TaggedAddresses\.lan_ipv4\.Port is -1"),
    ],
)
def test_a_bad_instance_is_refused_with_path_and_value(service: dict, says: str) -> None:
    """The whole answer is: the caller keeps what it had."""
    with pytest.raises(CatalogError, match=says):
        state.parse_instances("web", health(**service))


def intentions(*sources: dict, **entry: object) -> bytes:
    return body([{"Kind": "service-intentions", "Name": "web", "Sources": list(sources), **entry}])


def test_intentions_are_one_row_a_source() -> None:
    """In one order, whatever the catalog's was."""
    rows = state.parse_intentions(intentions({"Name": "shop", "Action": "allow", "Precedence": 9}, {"Name": "*", "Action": "deny"}))
    assert (IntentionRow("*", "web", "deny"), IntentionRow("shop", "web", "allow")) == rows
    assert () == state.parse_intentions(body([{"Name": "web", "Sources": None}]))


def test_what_only_an_http_request_can_meet_is_a_deny_for_connections() -> None:
    """Permissions, which are kept, and JWT requirements, with a note that says so."""
    permission = {"Action": "allow", "HTTP": {"PathPrefix": "/"}}
    (row,) = state.parse_intentions(intentions({"Name": "shop", "Permissions": [permission]}))
    assert ("deny", "by request", "") == (row.action, row.word, row.note)
    assert IntentionRow("shop", "web", "deny") == row.closed
    (row,) = state.parse_intentions(intentions({"Name": "shop", "Permissions": [permission]}, JWT={"Providers": [{"Name": "okta"}]}))
    assert ("deny", "deny", True) == (row.action, row.word, "JWT" in row.note)
    (row,) = state.parse_intentions(intentions({"Name": "shop", "Action": "allow"}, JWT={"Providers": [{"Name": "okta"}]}))
    assert ("deny", True) == (row.action, "JWT" in row.note)


@pytest.mark.parametrize("scope", [{"Peer": "west"}, {"Namespace": "other"}, {"Partition": "other"}, {"SamenessGroup": "all"}])
def test_a_source_of_another_mesh_is_another_service(scope: dict) -> None:
    """An allow for the peer's shop is none for ours."""
    assert () == state.parse_intentions(intentions({"Name": "shop", "Action": "allow", **scope}))
    assert len(state.parse_intentions(intentions({"Name": "shop", "Action": "allow", "Namespace": "default", "Partition": "default"}))) == 1
    assert () == state.parse_intentions(intentions({"Name": "shop", "Action": "allow"}, Namespace="other"))


def test_what_is_said_of_every_namespace_is_said_of_ours() -> None:
    """A deny among it must not be lost."""
    assert [row.action for row in state.parse_intentions(intentions({"Name": "*", "Action": "deny", "Namespace": "*"}))] == ["deny"]
    assert [row.action for row in state.parse_intentions(intentions({"Name": "*", "Action": "deny"}, Namespace="*"))] == ["deny"]


@pytest.mark.parametrize("action", ["", "Allow", "ALLOW ", "permit", 1, None])
def test_an_action_that_is_neither_is_refused(action: object) -> None:
    """Nothing is guessed where policy is concerned."""
    with pytest.raises(CatalogError, match=r"/v1/config/service-intentions: \$\[0\]\.Sources\[0\]\.Action"):
        state.parse_intentions(intentions({"Name": "shop", "Action": action}))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300])
def test_what_nothing_can_be_called_keeps_no_other_s_news_away(name: str) -> None:
    """Consul takes it of whoever may write the intentions, or the defaults, of one service, or one host."""
    assert len(state.parse_intentions(intentions({"Name": name, "Action": "deny"}, {"Name": "shop", "Action": "allow"}))) == 1
    assert () == state.parse_intentions(body([{"Name": name, "Sources": [{"Name": "shop", "Action": "deny"}]}]))
    assert {"web": "http"} == state.parse_service_defaults(body([{"Name": name, "Protocol": "grpc"}, {"Name": "web", "Protocol": "http"}]))
    assert ["a"] == [host.name for host in state.parse_hosts(body([{"Node": name}, {"Node": "a"}]))]


def test_a_destination_is_meant_in_any_case() -> None:
    """As Consul finds it where it is asked for one."""
    (row,) = state.parse_intentions(body([{"Name": "Web", "Sources": [{"Name": "Cart", "Action": "deny"}]}]))
    assert IntentionRow("Cart", "web", "deny") == row


@pytest.mark.parametrize("permissions", [[7], [{"Action": "allow", "HTTP": {"PathPrefix": "/", "Unheard": 1}}], [{"Action": "allow"}]])
def test_permissions_that_are_not_understood_deny_their_pair_alone(permissions: list) -> None:
    """Of a newer Consul: what it takes away must not be lost, and other services' news must come."""
    rows = state.parse_intentions(intentions({"Name": "cart", "Action": "allow"}, {"Name": "shop", "Permissions": permissions}))
    assert [("cart", "allow"), ("shop", "deny")] == [(row.source, row.word) for row in rows]
    assert rows[1].note.startswith("shop -> web: its permissions are not understood, and deny: ")


def test_more_sources_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All entries count together."""
    monkeypatch.setattr(limits, "CATALOG_INTENTIONS", 2)
    with pytest.raises(CatalogError, match="3 rows; at most 2"):
        state.parse_intentions(intentions(*({"Name": name, "Action": "allow"} for name in "abc")))


def test_protocols_come_from_the_defaults() -> None:
    """Of a service, and of the mesh; an entry without one says nothing."""
    entries = [{"Name": "web", "Protocol": "http"}, {"Name": "db"}]
    assert {"web": "http"} == state.parse_service_defaults(body(entries))
    assert "grpc" == state.parse_proxy_defaults(body([{"Name": "global", "Config": {"protocol": "grpc", "x": [1]}}]))
    for entries in ([], [{"Name": "other", "Config": {"protocol": "grpc"}}], [{"Name": "global", "Config": None}]):
        assert not state.parse_proxy_defaults(body(entries))
    with pytest.raises(CatalogError, match=r"\$\[0\]\.Config\.protocol is 7"):
        state.parse_proxy_defaults(body([{"Name": "global", "Config": {"protocol": 7}}]))


def test_a_bad_address_of_one_machine_keeps_no_other_s_news_away() -> None:
    """It is left out; the machine's good addresses and all other machines count."""
    hosts = state.parse_hosts(
        b'[{"Node": "a", "Address": "10.0.0.999", "TaggedAddresses": {"lan_ipv4": "10.0.0.1", "lan_ipv6": "::x"}},'
        b' {"Node": "b", "Address": "10.0.0.2"}]'
    )
    assert [(host.name, host.addresses) for host in hosts] == [("a", ("10.0.0.1",)), ("b", ("10.0.0.2",))]


def test_more_hosts_services_or_instances_than_the_limits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poisoned catalog must not take all memory."""
    monkeypatch.setattr(limits, "CATALOG_HOSTS", 2)
    monkeypatch.setattr(limits, "CATALOG_SERVICES", 2)
    monkeypatch.setattr(limits, "CATALOG_INSTANCES", 2)
    with pytest.raises(CatalogError, match="3 rows; at most 2"):
        state.parse_hosts(body([{"Node": name} for name in "abc"]))
    with pytest.raises(CatalogError, match="3 rows; at most 2"):
        state.parse_instances("web", body([{"Node": {"Node": name}, "Service": {}} for name in "abc"]))
    monkeypatch.setattr(limits, "CATALOG_MARKERS", 3)  # one of each host, and there may be more hosts than a service has instances
    assert len(state.parse_instances("nodeagent", body([{"Node": {"Node": name}, "Service": {}} for name in "abc"]))) == 3
    with pytest.raises(CatalogError, match="4 rows; at most 3"):
        state.parse_instances("nodeagent", body([{"Node": {"Node": name}, "Service": {}} for name in "abcd"]))
    with pytest.raises(CatalogError, match="3 rows; at most 2"):
        state.parse_service_names(body({"a": [], "b": [], "c": []}))
    with pytest.raises(CatalogError, match="3 rows; at most 2"):
        state.parse_service_defaults(body([{"Name": name} for name in "abc"]))


@pytest.mark.parametrize(
    ("check", "drained"),
    [("_node_maintenance", True), ("_service_maintenance:web-1", True), ("serfHealth", False), ("my_node_maintenance", False), ("", False)],
)
def test_maintenance_is_known_by_consuls_own_checks(check: str, *, drained: bool) -> None:
    """A check of another name that fails makes an instance unhealthy, and no more."""
    checks = [{"Status": "critical", "CheckID": check}]
    (row,) = state.parse_instances("web", body([{"Node": NODE, "Service": {"ID": "web-1", "Port": 80}, "Checks": checks}]))
    assert (row.instance.healthy, row.instance.drained) == (False, drained)
