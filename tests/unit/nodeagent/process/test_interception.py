"""From configuration to settings of the redirect package."""

import socket

import pytest

from nodeagent import limits
from nodeagent.config import Config, parse_config
from nodeagent.errors import ConfigError
from nodeagent.process.interception import basis_of, closed_units, read_settings, settings_of
from redirect.settings import Settings

BASE = """
[host]
name = "host1"
addresses = ["10.77.0.1"]
control_user = 64901
worker_user = 64902
{host}
[catalog]
address = "https://{catalog}:8501"
[intercept]
{intercept}
[admin]
metrics = "{metrics}"
"""


CLOSED_SHOP = """
[service.shop]
fail = "closed"
[[workload]]
selector = "unix:uid:1001"
service = "shop"
[[workload]]
selector = "systemd:id:till.service"
service = "shop"
"""


def config(
    host: str = "", intercept: str = "", metrics: str = "127.0.0.1:15020", more: str = "", catalog: str = "127.0.0.1"
) -> Config:
    """A configuration with these lines in it."""
    text = BASE.format(host=host, intercept=intercept, metrics=metrics, catalog=catalog)
    return parse_config(text + more, "test.toml")


def settings(given: Config) -> Settings:
    """Its settings."""
    return settings_of(given, control_uid=64901, worker_uid=64902)


def test_every_setting_of_the_file_arrives() -> None:
    """And the agent's own ports are those of limits.py."""
    lines = 'exclude_ports = [9100]\nexclude_cidrs = ["10.1.0.0/16"]\nmesh_cidrs = ["10.77.0.0/24"]\ncgroup_root = "lab/x/host1"'
    assert settings(config(intercept=lines)) == Settings(
        agent_uids=(64901, 64902), cgroup_root="lab/x/host1", outbound_port=limits.OUTBOUND_PORT,
        inbound_port=limits.INBOUND_PORT, tunnel_port=limits.TUNNEL_PORT, other_ports=(15020,), exclude_ports=(9100,),
        exclude_cidrs=("10.1.0.0/16",), exclude_addresses=(("127.0.0.1", 8501),), mesh_cidrs=("10.77.0.0/24",),
    )  # fmt: skip


def test_metrics_that_are_off_have_no_port() -> None:
    """The only port of the agent that may be missing."""
    assert settings(config(metrics="")).other_ports == ()


@pytest.mark.parametrize(
    ("intercept", "more", "expected"),
    [
        ("", "", ("closed", False, ())),
        ('fail = "open"', "", ("open", False, ())),
        ('fail = "open"\nunregistered = "refuse"', "", ("closed", False, ())),
        ('fail = "open"', CLOSED_SHOP, ("open", True, (1001,))),
        ("", CLOSED_SHOP, ("closed", False, (1001,))),
        ("", CLOSED_SHOP + '[service.web]\nfail = "open"\n', ("closed", True, (1001,))),
    ],
)
def test_the_fail_mode_and_who_never_bypasses_are_in_the_rules(
    intercept: str, more: str, expected: tuple[str, bool, tuple[int, ...]]
) -> None:
    """The mode of what is registered nowhere, and callers, where anything may bypass; endpoints and modes are elements."""
    found = settings(config(host='mode = "strict"', intercept=intercept, more=more))
    assert (found.fail, found.knows_callers, found.closed_uids) == expected


def test_units_of_a_closed_service_never_bypass() -> None:
    """By their name, and by the rule that names them."""
    stays_closed = closed_units(config(more=CLOSED_SHOP))
    units = ("shop.service", "till.service", "web.service", "shop")
    assert [stays_closed(unit) for unit in units] == [True, True, False, True]


def test_a_user_that_does_not_exist_is_refused_with_the_key() -> None:
    """As the supervisor refuses it: both have the same eyes."""
    with pytest.raises(ConfigError, match=r"host\.worker_user: there is no user 'no-such-user'"):
        read_settings(parse_config(BASE.format(
            host="", intercept="", metrics="127.0.0.1:15020", catalog="127.0.0.1"
        ).replace("64902", '"no-such-user"'), "test.toml"))  # fmt: skip


@pytest.mark.parametrize(
    ("catalog", "endpoint", "port"),
    [("127.0.0.1", ("127.0.0.1", 8501), 0), ("[fd77::0:1]", ("fd77::1", 8501), 0), ("catalog.example", None, 8501), ("catalog-2", None, 8501)],
)
def test_rules_wait_for_no_resolver(
    catalog: str, endpoint: tuple[str, int] | None, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At boot they come before the network, and a silent resolver takes longer than the kernel's switch: it is never asked."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    found = read_settings(config(catalog=catalog))
    assert (found.exclude_addresses, found.catalog_port) == ((endpoint,) if endpoint else (), port)


def test_read_settings_resolves_users() -> None:
    """What the supervisor and `check` ask for is the same plan, whenever they ask."""
    assert read_settings(config()) == settings(config())


def test_what_may_bypass_stands_on_these_settings() -> None:
    """Fail and mode of host and services, and whose addresses are ours; not on what the log is like."""
    base = basis_of(config())
    different = [
        config(host='mode = "observe"'), config(intercept='fail = "open"'), config(intercept='unregistered = "refuse"'),
        config(more='[service.web]\nfail = "open"\n'), config(more='[service.web]\nmode = "observe"\n'),
    ]  # fmt: skip
    assert all(basis_of(each) != base for each in different)
    assert basis_of(config(more='[log]\nlevel = "debug"\n')) == base
