"""`nodeagent.toml`: what is taken, and what is refused with file, key and cure."""

import re
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.config import Config, agent_ports, find_faults, load_config, mesh_of, parse_config, why_never_captured
from nodeagent.errors import ConfigError
from nodeagent.model.workload import Selector, WorkloadRule
from nodeagent.process.interception import settings_of
from redirect.settings import NEVER_PORTS

MINIMAL = """
[host]
name = "host1"
addresses = ["10.0.0.1", "fd00::1"]
[catalog]
address = "https://10.0.0.250:8501"
"""


def parse(extra: str = "", text: str = MINIMAL) -> Config:
    return parse_config(text + extra, "nodeagent.toml")


def test_a_few_lines_are_enough() -> None:
    """The rest has defaults, and they are the safe ones."""
    config = parse()
    assert ("strict", "closed", "registered", "memory", "passthrough") == (
        config.host.mode, config.intercept.fail, config.identity.units, config.identity.persist, config.intercept.unregistered,
    )  # fmt: skip
    assert config.intercept.enabled


def test_decisions_depend_on_the_mesh_part() -> None:
    """Names, modes, rules and exceptions, in one order."""
    extra = """
    [[workload]]
    selector = "unix:uid:1001"
    service = "batch"
    [service.b]
    plaintext_ok = true
    [service.a]
    plaintext_ok = true
    mode = "observe"
    loopback = "enforce"
    [traffic]
    dial_instance = ["prometheus", "checker"]
    """
    mesh = mesh_of(parse(extra), "td")
    assert (("a",), ("checker", "prometheus")) == (mesh.loopback_enforced, mesh.dial_instance)
    assert ("td", "dc1", "host1", ("a", "b")) == (mesh.trust_domain, mesh.datacenter, mesh.host, mesh.plaintext_ok)
    assert (WorkloadRule(Selector("unix:uid", "1001"), "batch"),) == mesh.workloads


REFUSED = [
    ("[host", "not TOML"),
    ("[intercept]\nfial = 'closed'\n", r"intercept\.fial: no such setting; did you mean fail\?"),
    ("[nonsense]\n", "nonsense: no such setting; known here: host, catalog"),
    ("[service.web]\nmod = 'strict'\n", r"service.*mod: no such setting; did you mean mode\?"),
    ("[intercept]\nfail = 'maybe'\n", r"intercept\.fail: Invalid enum value 'maybe'"),
    ("[intercept]\nexclude_ports = [0]\n", r"intercept\.exclude_ports\[0\]: Expected a whole number >= 1"),
    ("[intercept]\nexclude_cidrs = ['10.0.0.1/8']\n", r"intercept\.exclude_cidrs: '10\.0\.0\.1/8' is not a CIDR"),
    ("[intercept]\nmesh_cidrs = ['x']\n", r"intercept\.mesh_cidrs: 'x' is not a CIDR"),
    ("[[workload]]\nselector = 'uid:5'\nservice = 'x'\n", r"workload\[0\]\.selector: 'uid:5' is not a selector"),
    ("[[workload]]\nselector = 'unix:uid:5'\nservice = '*'\n", r"workload\[0\]\.service: not a name: use lower-case letters"),
    ("[[workload]]\nselector = 'unix:uid:5'\nservice = \"web\\n\"\n", "not a name"),
    ("[service.'*']\n", r"service\.'\*': not a name"),
    ("[service.Web]\n", r"service\.'Web': not a name: use lower-case letters"),
    ("[identity]\nunits = ['Web.service']\n", r"identity\.units\[0\]: 'Web' cannot name a service: .*; call it web; or name .*systemd:id:Web\.service"),
    ("[identity]\nunits = ['web', '*']\n", r"identity\.units\[1\]: '\*' is no unit, and patterns are not known here; for every unit: units = \"any\""),
    ("[identity]\nunits = ['Web']\n", r"selector = \"systemd:id:Web\.service\""),
    ("[[workload]]\nselector = 'systemd:id:*.service'\nservice = 'x'\n", r"workload\[0\]\.selector: .*patterns are not known"),
    ("[intercept]\nmesh_cidrs = ['fe80::%eth0/64']\n", r"intercept\.mesh_cidrs: 'fe80::%eth0/64' has a zone"),
    ("[traffic]\ndial_instance = ['*']\n", r"traffic\.dial_instance\[0\]: not a name"),
    ("[service.web]\nbalance_dialled = 1\n", r"service.*balance_dialled: Expected"),
    ("[identity]\npersist = 'file'\n", r"identity\.persist: Invalid enum value 'file'; it is one of memory, disk"),
    ("[admin]\nmetrics = 'nonsense'\n", r"admin\.metrics: 'nonsense' is not ip:port"),
    ("[admin]\nmetrics = '127.0.0.1:0'\n", r"admin\.metrics: .*1\.\.65535"),
    ("[admin]\nmetrics = '127.0.0.1:15008'\n", r"admin\.metrics: port 15008 is another one of the agent's own"),
    ("[admin]\nsocket = 'api.sock'\n", r"admin\.socket: 'api.sock' is not below a directory of the agent's own"),
    ("[admin]\nsocket = '/tmp/api.sock'\n", r"admin\.socket: '/tmp/api.sock' is not below"),
    ("[admin]\nsocket = '/run/x/../api.sock'\n", r"admin\.socket: .* is not below"),
    ("[admin]\nwrite_group = -1\n", r"admin\.write_group: Expected a whole number >= 0"),
    ("[admin]\nsocket = 5\n", r"admin\.socket: Expected a text in quotes"),
]


@pytest.mark.parametrize(("extra", "says"), REFUSED)
def test_a_bad_setting_is_refused_with_file_key_and_cure(extra: str, says: str) -> None:
    """Never ignored: a typing error in a security setting must not be silent."""
    with pytest.raises(ConfigError, match=f"nodeagent.toml: .*{says}"):
        parse(extra)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.250:8501", "http://10.0.0.250:8500", "ftp://10.0.0.250:1", "https://10.0.0.250", "https://h:0", "https://h:65536", "https://h:1/x",
     "http://127.0.0.1.evil.example:8500", "https://user@h:1", ""],
)  # fmt: skip
def test_the_catalog_is_reached_over_tls_or_on_loopback(address: str) -> None:
    """Policy and identity come from there."""
    with pytest.raises(ConfigError, match=r"catalog\.address"):
        parse(text=MINIMAL.replace("https://10.0.0.250:8501", address))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:canary@c:8501", "https://…@c:8501"), ("user:canary@c:8501", "…@c:8501"), ("https://u:canary://x@y@c:8501", "https://…@c:8501"),
        ("https://c:8501/?token=canary", "https://c:8501/?…"), ("https://c:8501#canary\ncanary", "https://c:8501?…"), ("c:8501", "c:8501"), ("", ""),
    ],
)  # fmt: skip
def test_what_may_be_a_password_is_not_repeated(address: str, shown: str) -> None:
    """These words go to terminals and logs."""
    (fault,) = find_faults(MINIMAL.replace('"https://10.0.0.250:8501"', repr(address)))
    assert fault == f"catalog.address: {shown!r} is not https://host:port"


@pytest.mark.parametrize("address", ["http://127.0.0.1:8500", "http://[::1]:8500", "http://localhost:8500", "https://consul.example:8501/"])
def test_plain_http_is_for_loopback(address: str) -> None:
    """Nobody else listens there."""
    assert address == parse(text=MINIMAL.replace("https://10.0.0.250:8501", address)).catalog.address
    assert parse("plain_http_ok = true\n", MINIMAL.replace("https:", "http:")).catalog.plain_http_ok


@pytest.mark.parametrize(
    ("addresses", "says"), [("[]", "give at least one"), ("['h1']", "'h1' is not an IP address"), ("[1]", r"host\.addresses\[0\]: Expected a text in quotes"),
     ("['fe80::1%eth0']", r"'fe80::1%eth0' has a zone \(%\)"), ("['10.0.0.1', '::ffff:10.0.0.1']", "stands there twice"),
     (str([f"10.0.0.{n}" for n in range(limits.HOST_ADDRESSES + 1)]), f"the catalog takes {limits.HOST_ADDRESSES}")],
)  # fmt: skip
def test_a_host_has_ip_addresses(addresses: str, says: str) -> None:
    """The catalog gets the first one."""
    with pytest.raises(ConfigError, match=says):
        parse(text=MINIMAL.replace('["10.0.0.1", "fd00::1"]', addresses))


@pytest.mark.parametrize(
    ("ip", "says"),
    [
        ("127.0.0.1", "is loopback, which means each host itself"), ("::1", "is loopback"), ("::ffff:127.0.0.1", "is loopback"),
        ("0.0.0.0", "is unspecified, which means all of a host's: list them"), ("::", "is unspecified"),
        ("224.0.0.1", "is multicast, which is a group's"), ("ff02::1", "is multicast"), ("255.255.255.255", "is broadcast"),
        ("169.254.1.1", "is IPv4 link-local, which means another machine on each link, and is never captured"), ("fe80::1", "is link-local"),
    ],
)  # fmt: skip
def test_a_host_s_address_means_that_host_to_all_others(ip: str, says: str) -> None:
    """Registered, it would draw each host's calls to itself, or nobody's."""
    with pytest.raises(ConfigError, match=re.escape(f"f: host.addresses: {ip!r} {says}") + ".*; give those by which other hosts reach this one$"):
        parse_config(MINIMAL.replace("10.0.0.1", ip), "f")


@pytest.mark.parametrize(("ip", "taken"), [("0.0.0.0", True), ("[::]", True), ("127.0.0.1", True), ("169.254.1.1", True), ("239.1.1.1", False), ("[fe80::1]", False)])
def test_the_metrics_may_be_at_all_addresses_but_at_no_group_s(ip: str, taken: bool) -> None:  # noqa: FBT001 - a table's column
    """A wildcard is right for whoever listens."""
    faults = find_faults(f"{MINIMAL}[admin]\nmetrics = '{ip}:9100'\n")
    assert [fault.partition(": ")[0] for fault in faults] == ([] if taken else ["admin.metrics"])
    assert taken or "; listen at 127.0.0.1:15020, or at another address of this host" in faults[0]


@pytest.mark.parametrize(
    ("host", "says"),
    [("0.0.0.0", "is unspecified, which is where one listens"), ("[::]", "is unspecified"), ("[ff02::1]", "is multicast"), ("[fe80::1]", "needs a zone"),
     ("10.0.0.300", "is not an IP address"), ("[1:2]", "is not an IP address"), ("10.0.0", "is not an IP address")],
)  # fmt: skip
def test_the_catalog_is_at_an_address_that_can_be_called(host: str, says: str) -> None:
    """Told before anybody waits for an answer; names are the resolver's affair."""
    (fault,) = find_faults(MINIMAL.replace("10.0.0.250", host))
    assert fault.startswith("catalog.address: ")
    assert says in fault
    for good in ("[fd00::1]", "127.0.0.1", "consul-1", "consul.7.example", "a.x1"):
        assert find_faults(MINIMAL.replace("10.0.0.250", good)) == ()


@pytest.mark.parametrize(("cidr", "says"), [("127.0.0.0/8", 'loopback = "enforce" alone'), ("fe80::/10", "never captured"), ("169.254.0.0/16", "never captured"), ("224.0.0.0/4", "has no connections"), ("::/128", "nobody's")])
def test_what_is_never_captured_is_no_mesh_network(cidr: str, says: str) -> None:
    """It would mean nothing, and look as if it did; a network that has more than that is right."""
    (fault,) = find_faults(f"{MINIMAL}[intercept]\nmesh_cidrs = ['{cidr}']\nexclude_cidrs = ['{cidr}']\n")
    assert fault.startswith(f"intercept.mesh_cidrs: '{cidr}' is ")
    assert says in fault
    assert find_faults(f"{MINIMAL}[intercept]\nmesh_cidrs = ['0.0.0.0/0', '::/0', '10.0.0.0/8']\n") == ()


def test_a_wrong_key_hides_no_other_fault_of_its_table() -> None:
    """Nor does a wrong type: a second look should find nothing new."""
    text = MINIMAL.replace("[host]", "[host]\nmodus = 1\nworkers = 'two'").replace("10.0.0.1", "127.0.0.1").replace("https:", "http:")
    faults = find_faults(f"{text}ca = ''\n[intercept]\nmesh_cidrs = ['x', 5]\n[admin]\nsocket = 'a'\nmetric = ''\n[log]\nconnections = 'here'\nlevel = 3\n")
    keys = ["host.modus", "host.workers", "catalog.ca", "intercept.mesh_cidrs[1]", "admin.metric", "log.level",
            "host.addresses", "intercept.mesh_cidrs", "catalog.address", "log.connections", "admin.socket"]  # fmt: skip
    assert [fault.partition(": ")[0] for fault in faults] == keys


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """With its path and the option that names another."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read: .*--config"):
            load_config(path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot be read: it is no text in UTF-8 .* at byte 0"):
        load_config(binary)


def test_a_file_without_an_end_is_no_configuration() -> None:
    """No more of it is read than a configuration can have."""
    with pytest.raises(ConfigError, match=f"more than {limits.CONFIG_BYTES} bytes"):
        load_config(Path("/dev/zero"))


def test_a_file_is_read(tmp_path: Path) -> None:
    """And its path is what messages call it."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(MINIMAL)
    assert parse() == load_config(path)
    path.write_text("x = 1\n" + MINIMAL)
    with pytest.raises(ConfigError, match=str(path)):
        load_config(path)


def test_names_of_datacenters_are_lower_case() -> None:
    """They stand in certificates and SNI beside those of services."""
    with pytest.raises(ConfigError, match=r"host\.datacenter: not a name: use lower-case letters"):
        parse(text=MINIMAL.replace('name = "host1"', 'name = "h"\ndatacenter = "DC1"'))


def test_a_host_is_called_as_its_machine_is() -> None:
    """Consul's node names often have capitals; a blank is no part of any."""
    assert parse(text=MINIMAL.replace('"host1"', '"DB-01.Example"')).host.name == "DB-01.Example"
    with pytest.raises(ConfigError, match=r"host\.name: not a name: use letters, digits"):
        parse(text=MINIMAL.replace('"host1"', '"DB 01"'))


def test_ports_that_are_never_captured_are_those_of_the_kernels_rules() -> None:
    """The configuration does not import them: the kernel's rules stand alone."""
    assert sorted(limits.NEVER_CAPTURED_PORTS) == sorted(NEVER_PORTS)
    assert settings_of(parse(), control_uid=1, worker_uid=2).agent_ports == agent_ports(parse())


@pytest.mark.parametrize(("port", "why"), [(22, "never captured"), (8600, "never captured"), (99, "exclude_ports"), (15001, "own"), (15020, "own")])
def test_a_port_past_the_agent_is_known_as_such(port: int, why: str) -> None:
    """Whoever registers a service there is told why it would not be protected."""
    assert why in why_never_captured(parse("[intercept]\nexclude_ports = [99]\n"), port)


def test_other_ports_are_captured_and_a_host_that_captures_nothing_knows_that() -> None:
    """Without metrics their port is free."""
    assert why_never_captured(parse(), 8080) == ""
    assert why_never_captured(parse("[admin]\nmetrics = ''\n"), 15020) == ""
    assert why_never_captured(parse("[intercept]\nenabled = false\n"), 22) == ""


def test_all_that_is_wrong_is_named_at_once() -> None:
    """What the types say and what they cannot, also where the one hides in a table beside the other's."""
    text = MINIMAL.replace("[host]", "[host]\nmode = 'strikt'\nworkers = -1") + """
    [[workload]]
    selector = "uid:5"
    service = "batch"
    [[workload]]
    selectr = "unix:uid:5"
    service = "Batch"
    [service.web]
    fail = 5
    [admin]
    socket = "api.sock"
    """
    faults = find_faults(text)
    keys = [
        "host.mode", "host.workers", "workload[1].selectr", "workload[1].service", "workload[1].selector", "service.web.fail",
        "workload[0].selector", "admin.socket",
    ]  # fmt: skip
    assert [fault.partition(": ")[0] for fault in faults] == keys
    mended = find_faults(text.replace("selectr", "selector").replace("Batch", "batch"))
    assert [fault.partition(": ")[0] for fault in mended] == ["host.mode", "host.workers", "service.web.fail", "workload[0].selector", "admin.socket"]
    with pytest.raises(ConfigError, match=r"^f: host\.mode: .* \(and 7 more; see: nodeagent config validate\)$"):
        parse_config(text, "f")
    assert find_faults(MINIMAL) == ()
    assert [fault.partition(": ")[0] for fault in find_faults("")] == ["host", "catalog"]


@pytest.mark.parametrize("extra", [
    "[[workload]]\nselector = 'unix:uid:4294967295'\nservice = 'x'\n", "[[workload]]\nselector = 'unix:uid:01001'\nservice = 'x'\n",
    "[admin]\nwrite_group = 4294967295\n",
])  # fmt: skip
def test_nobodys_id_is_none(extra: str) -> None:
    """-1 to the kernel: it would be everybody whose id is not known. Nor is a number that no kernel writes so."""
    assert len(find_faults(MINIMAL + extra)) == 1
    assert find_faults(MINIMAL + extra.replace("4294967295", "4294967294").replace("01001", "1001")) == ()
    assert find_faults(MINIMAL.replace("[host]", "[host]\nworker_user = 4294967295"))[0].startswith("host.worker_user: Expected")


def test_a_value_outside_a_closed_set_is_told_the_set() -> None:
    """The cure is one of these words."""
    with pytest.raises(ConfigError, match=r"host\.mode: .*'strikt'; it is one of observe, permissive, strict"):
        parse_config('[host]\nname = "a"\naddresses = ["10.0.0.1"]\nmode = "strikt"\n[catalog]\naddress = "https://c:1"\n', "f")


@pytest.mark.parametrize("root", ["../../x", "/sys/fs/cgroup", "a/../b"])
def test_the_cgroup_root_is_below_the_mount(root: str) -> None:
    """Anything else would name cgroups that are not this host's."""
    text = '[host]\nname = "a"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:1"\n[intercept]\n'
    with pytest.raises(ConfigError, match="cgroup_root"):
        parse_config(f'{text}cgroup_root = "{root}"\n', "f")


def test_what_is_not_said_is_as_the_limits_say() -> None:
    """And more workers than there may be are refused."""
    host = parse_config(MINIMAL, "f").host
    assert (host.drain_s, host.deny_grace_s) == (limits.DRAIN_S, limits.DENY_GRACE_S)
    many = MINIMAL.replace("[host]", f"[host]\nworkers = {limits.WORKERS_MAX}")
    assert parse_config(many, "f").host.workers == limits.WORKERS_MAX
    with pytest.raises(ConfigError, match=r"host\.workers"):
        parse_config(many.replace(str(limits.WORKERS_MAX), str(limits.WORKERS_MAX + 1)), "f")
