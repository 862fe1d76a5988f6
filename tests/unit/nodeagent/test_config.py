"""`nodeagent.toml`: what is taken, and what is refused with file, key and cure."""

from pathlib import Path

import pytest

from nodeagent.config import Config, load_config, mesh_of, parse_config
from nodeagent.errors import ConfigError
from nodeagent.model.workload import Selector, WorkloadRule

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
    assert ("strict", "closed", "registered", "passthrough") == (
        config.host.mode, config.intercept.fail, config.identity.units, config.intercept.unregistered,
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
    """
    mesh = mesh_of(parse(extra), "td")
    assert ("td", "dc1", "host1", ("a", "b")) == (mesh.trust_domain, mesh.datacenter, mesh.host, mesh.plaintext_ok)
    assert (WorkloadRule(Selector("unix:uid", "1001"), "batch"),) == mesh.workloads


REFUSED = [
    ("[host", "not TOML"),
    ("[intercept]\nfial = 'closed'\n", r"intercept\.fial: no such setting; did you mean fail\?"),
    ("[nonsense]\n", "nonsense: no such setting; known here: host, catalog"),
    ("[service.web]\nmod = 'strict'\n", r"service.*mod: no such setting; did you mean mode\?"),
    ("[intercept]\nfail = 'maybe'\n", r"intercept\.fail: Invalid enum value 'maybe'"),
    ("[intercept]\nexclude_ports = [0]\n", r"intercept\.exclude_ports\[0\]: Expected `int` >= 1"),
    ("[intercept]\nexclude_cidrs = ['10.0.0.1/8']\n", r"intercept\.exclude_cidrs: '10\.0\.0\.1/8' is not a CIDR"),
    ("[intercept]\nmesh_cidrs = ['x']\n", r"intercept\.mesh_cidrs: 'x' is not a CIDR"),
    ("[[workload]]\nselector = 'uid:5'\nservice = 'x'\n", r"workload\[0\]\.selector: 'uid:5' is not a selector"),
    ("[[workload]]\nselector = 'unix:uid:5'\nservice = '*'\n", r"workload\[0\]\.service: Expected `str` matching regex"),
    ("[[workload]]\nselector = 'unix:uid:5'\nservice = \"web\\n\"\n", "matching regex"),
    ("[service.'*']\n", "matching regex"),
    ("[admin]\nsocket = 5\n", r"admin\.socket: Expected `str`"),
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


@pytest.mark.parametrize("address", ["http://127.0.0.1:8500", "http://[::1]:8500", "http://localhost:8500", "https://consul.example:8501/"])
def test_plain_http_is_for_loopback(address: str) -> None:
    """Nobody else listens there."""
    assert address == parse(text=MINIMAL.replace("https://10.0.0.250:8501", address)).catalog.address
    assert parse("plain_http_ok = true\n", MINIMAL.replace("https:", "http:")).catalog.plain_http_ok


@pytest.mark.parametrize(
    ("addresses", "says"), [("[]", "give at least one"), ("['h1']", "'h1' is not an IP address"), ("[1]", r"host\.addresses\[0\]: Expected `str`")]
)
def test_a_host_has_ip_addresses(addresses: str, says: str) -> None:
    """The catalog gets the first one."""
    with pytest.raises(ConfigError, match=says):
        parse(text=MINIMAL.replace('["10.0.0.1", "fd00::1"]', addresses))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """With its path and the option that names another."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read: .*--config"):
            load_config(path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(binary)


def test_a_file_is_read(tmp_path: Path) -> None:
    """And its path is what messages call it."""
    path = tmp_path / "nodeagent.toml"
    path.write_text(MINIMAL)
    assert parse() == load_config(path)
    path.write_text("x = 1\n" + MINIMAL)
    with pytest.raises(ConfigError, match=str(path)):
        load_config(path)
