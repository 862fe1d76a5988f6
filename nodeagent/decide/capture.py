"""Which rule of the kernel sends a destination to the agent, told from what the rules are made of.

The kernel decides; `redirect/plan` says how. This is the same order in the words of `nodeagent why`, and a test holds both
together.
"""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from nodeagent import limits
from nodeagent.config import Config, why_never_captured
from nodeagent.model.address import Address

_SCOPED = ("fe80::/10",)  # bound to its device, which does not lead to the agent; as in redirect


class Captured(NamedTuple):
    """Whether, and by which rule."""

    is_captured: bool
    why: str
    is_refused: bool = False
    """By the kernel: neither the agent nor the destination meets it."""


class Sets(NamedTuple):
    """What the kernel's sets hold: the elements that the catalog gave."""

    addresses: frozenset[str]
    ports: frozenset[int]
    loopback_ports: frozenset[int] = frozenset()
    catalog: frozenset[str] = frozenset()
    """Where its name leads."""


def why_captured(config: Config, sets: Sets, dst: Address, *, is_local: bool) -> Captured:
    """What becomes of the SYN of a local process towards `dst`. The order of the cases is that of the rules.

    is_local: the address is one of this machine's.
    """
    exempt = next(filter(None, _exemptions(config, sets, dst, is_local=is_local)), "")
    if exempt:
        return Captured(False, exempt)
    if is_local:
        if dst.port in sets.ports and (scoped := _network_of(dst.ip, _SCOPED)):
            return Captured(False, f"the kernel refuses it: at its own {scoped} addresses a host's services answer no local caller", is_refused=True)
        if dst.port in sets.ports:
            return Captured(True, f"a local caller of a local service: port {dst.port} is registered on this host")
        return Captured(False, f"no service is registered at port {dst.port} of this host")
    if dst.ip in sets.addresses:
        return Captured(True, f"{dst.ip} is an address of the catalog")
    network = _network_of(dst.ip, config.intercept.mesh_cidrs)
    return Captured(bool(network), f"{network} is in intercept.mesh_cidrs" if network else f"{dst.ip} is no address of the mesh")


def _exemptions(config: Config, sets: Sets, dst: Address, *, is_local: bool) -> Iterator[str]:
    """Why nobody's call to `dst` is captured, in the order of the rules; empty where that is not why."""
    intercept = config.intercept
    yield "" if intercept.enabled else "intercept.enabled is false: nothing is captured"
    yield why_never_captured(config, dst.port)
    loopback = "" if dst.port in sets.loopback_ports else _network_of(dst.ip, limits.LOOPBACK_NETWORKS)
    yield loopback and f'{loopback} is loopback, captured only for services with loopback = "enforce"'
    never, excluded = (_network_of(dst.ip, networks) for networks in (limits.NEVER_CAPTURED_NETWORKS, intercept.exclude_cidrs))
    yield "" if is_local else never and f"{never} is never captured: link-local and metadata addresses"
    yield excluded and f"{excluded} is in intercept.exclude_cidrs"
    address = config.catalog.address.removesuffix("/")
    is_named = dst.ip in sets.catalog and address.endswith(f":{dst.port}")
    yield f"{dst} is the catalog" if is_named or address.endswith(f"//{dst}") else ""


def _network_of(ip: str, networks: tuple[str, ...]) -> str:
    """The first of the networks that has the address; empty for none."""
    parsed = ipaddress.ip_address(ip)
    return next((network for network in networks if parsed in ipaddress.ip_network(network)), "")
