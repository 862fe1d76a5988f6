"""What `why` says of capture is what the rules do."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.decide.capture import Sets, why_captured
from nodeagent.model.address import Address
from nodeagent.process.interception import settings_of
from redirect import rules
from redirect.plan import CATALOG, LOCAL_PORTS, LOOPBACK_PORTS, MESH, plan
from redirect.settings import LOOPBACK_NETWORKS, NEVER_NETWORKS
from tests.support.mesh import config

SETS = Sets(
    frozenset({"10.77.0.2", "fd77::2", "192.0.2.7"}), frozenset({9000, 9001, 8500}), frozenset({9001}), frozenset({"10.77.0.2", "fd77::2"})
)
EXTRA = """[intercept]
exclude_ports = [7777]
exclude_cidrs = ["10.77.0.64/26", "10.9.0.0/16"]
mesh_cidrs = ["10.0.0.0/8", "fd99::/16"]
"""
CONFIG = config(EXTRA)
NAMED = replace(CONFIG, catalog=replace(CONFIG.catalog, address="https://catalog.example:443/"))
OURS = ("10.77.0.1", "fd77::1", "127.0.0.1", "::1", "fe80::1", "169.254.0.1")

ips = st.sampled_from((*OURS, "10.77.0.2", "fd77::2", "192.0.2.7", "192.0.2.8", "10.77.0.65", "10.9.1.1", "10.3.3.3", "fd99::1", "fd98::1",
                       "169.254.169.254", "fe80::5", "10.77.0.250"))  # fmt: skip
ports = st.sampled_from((22, 53, 80, 443, 7777, 8500, 8501, 9000, 9001, 9002, limits.OUTBOUND_PORT, limits.TUNNEL_PORT, limits.METRICS_PORT))


def is_in(ip: str, family: int, networks: Iterable[str]) -> bool:
    """Whether the address is of that family and in one of the networks."""
    parsed = ipaddress.ip_address(ip)
    return parsed.version == family and any(parsed in ipaddress.ip_network(each) for each in networks)


ADDRESS_SETS = {**dict.fromkeys(MESH.values(), SETS.addresses), **dict.fromkeys(CATALOG.values(), SETS.catalog)}
PORT_SETS = {LOCAL_PORTS: SETS.ports, LOOPBACK_PORTS: SETS.loopback_ports}
HOLDS: dict[type, Callable[[Any, str, int], bool]] = {
    rules.ToPorts: lambda c, _, port: any(first <= port <= last for first, last in c.ranges),
    rules.ToNetworks: lambda c, ip, _: is_in(ip, c.family, c.networks),
    rules.ToEndpoints: lambda c, ip, port: (ip, port) in c.endpoints,
    rules.ToThisHost: lambda c, ip, _: (ip in OURS) == c.holds,
    rules.Leaving: lambda _, ip, __: ip not in OURS,
    rules.ToPortSet: lambda c, _, port: (port in PORT_SETS[c.name]) == c.holds,
    rules.ToAddressSet: lambda c, ip, _: is_in(ip, c.family, ADDRESS_SETS[c.name]),
    rules.Tcp: lambda c, _, __: c.holds,
    rules.Opening: lambda c, _, __: c.holds,
    rules.Beating: lambda c, _, __: c.holds,
    rules.OfUsers: lambda _, __, ___: False,
    rules.Translated: lambda _, __, ___: False,
}
"""What a SYN of an application, while the agent beats, is."""


def end_of(made: Config, ip: str, port: int, first: str) -> object:
    """What a chain of the plan does with a SYN, rule by rule: the kernel in a few lines."""
    settings = settings_of(made, control_uid=990, worker_uid=991)
    chains = {chain.name: chain for chain in plan(settings).main.chains}

    def walk(name: str) -> object:
        for rule in chains[name].rules:
            if all(HOLDS[type(condition)](condition, ip, port) for condition in rule.conditions):
                ended = walk(rule.action.chain) if isinstance(rule.action, rules.Jump | rules.Goto) else rule.action
                if ended:
                    return ended
        return None

    return walk(first)


@given(st.sampled_from((CONFIG, NAMED)), ips, ports)
def test_it_says_what_the_rules_do(made: Config, ip: str, port: int) -> None:
    """For every kind of address and port."""
    captured = why_captured(made, SETS, Address(ip, port), is_local=ip in OURS)
    assert captured.is_captured == isinstance(end_of(made, ip, port, "out"), rules.RedirectTo), captured.why
    refuses = isinstance(end_of(made, ip, port, "around"), rules.Reset)  # also what has been redirected, which does not come there
    assert captured.is_refused == (refuses and not captured.is_captured), captured.why


@pytest.mark.parametrize(
    ("ip", "port", "why"),
    [
        ("10.77.0.2", 80, "10.77.0.2 is an address of the catalog"),
        ("10.77.0.2", 22, "never captured"),
        ("10.77.0.2", 7777, "intercept.exclude_ports"),
        ("10.9.1.1", 80, "10.9.0.0/16 is in intercept.exclude_cidrs"),
        ("10.3.3.3", 80, "10.0.0.0/8 is in intercept.mesh_cidrs"),
        ("127.0.0.1", 9000, "127.0.0.0/8 is loopback"),
        ("127.0.0.1", 9001, "port 9001 is registered on this host"),
        ("10.77.0.1", 9000, "port 9000 is registered on this host"),
        ("10.77.0.1", 9002, "no service is registered at port 9002"),
        ("192.0.2.8", 80, "no address of the mesh"),
        ("fe80::1", 9000, "the kernel refuses it"),
        ("fe80::5", 9000, "fe80::/10 is never captured"),
        ("169.254.0.1", 9000, "port 9000 is registered on this host"),
    ],
)
def test_it_names_the_rule(ip: str, port: int, why: str) -> None:
    """In the operator's words."""
    assert why in why_captured(CONFIG, SETS, Address(ip, port), is_local=ip in OURS).why


def test_a_catalog_that_has_a_name_is_where_the_name_leads() -> None:
    """At its port alone."""
    assert why_captured(NAMED, SETS, Address("10.77.0.2", 443), is_local=False) == (False, "10.77.0.2:443 is the catalog", False)
    assert why_captured(NAMED, SETS, Address("10.77.0.2", 80), is_local=False).is_captured


def test_without_interception_nothing_is_captured() -> None:
    """And it says why."""
    off = config("[intercept]\nenabled = false\n")
    assert why_captured(off, SETS, Address("10.77.0.2", 80), is_local=False) == (False, "intercept.enabled is false: nothing is captured", False)


def test_the_networks_are_those_of_the_rules() -> None:
    """Written in both, for neither package imports the other."""
    assert (limits.LOOPBACK_NETWORKS, limits.NEVER_CAPTURED_NETWORKS) == (LOOPBACK_NETWORKS, NEVER_NETWORKS)
