"""What control may have captured: each value is checked here, because control talks to the network and is not root."""

import ipaddress
from dataclasses import dataclass, replace
from typing import TypeVar

from nodeagent import limits
from nodeagent.model.address import canonical_ip
from nodeagent.observe.log import open_log
from nodeagent.wire.frames import CaptureFrame
from redirect.elements import Exceptions
from redirect.settings import Fail

_log = open_log()
_Value = TypeVar("_Value", str, int)

NEVER_PORTS = frozenset((
    *limits.NEVER_CAPTURED_PORTS,
    limits.OUTBOUND_PORT, limits.INBOUND_PORT, limits.TUNNEL_PORT,  # a loop; that of the metrics is exempt in the rules
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Capture:
    """What the kernel's sets shall hold."""

    addresses: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()
    """Values that were left out, as words for the log."""
    overflow: str = ""
    """What was beyond the limits and not even looked at; empty: nothing."""
    loopback_ports: tuple[int, ...] = ()
    """Those of the ports that are captured on loopback addresses, too."""
    exceptions: Exceptions | None = None
    """What differs from the host's fail mode; None: not told, or too much to take, so nothing bypasses a dead agent."""
    catalog: tuple[str, ...] = ()
    """Where the catalog's name leads: not captured at its port. Empty: not known."""


def check_capture(frame: CaptureFrame) -> Capture:
    """The values of `frame` that may be captured, canonical, sorted, without doubles."""
    refused: list[str] = []
    addresses: set[str] = set()
    for text in frame.addresses[: limits.CAPTURE_ADDRESSES]:
        address = try_address(text)
        if address:
            addresses.add(address)
        else:
            refused.append(f"address {text[:64]!r}")
    ports = {port for port in frame.ports[: limits.CAPTURE_PORTS] if _is_port(port) and port not in NEVER_PORTS}
    refused += [f"port {port}" for port in frame.ports[: limits.CAPTURE_PORTS] if port not in ports]
    beyond = [
        f"{given - limit} {what} beyond the limit of {limit}"
        for what, given, limit in (
            ("addresses", len(frame.addresses), limits.CAPTURE_ADDRESSES),
            ("ports", len(frame.ports), limits.CAPTURE_PORTS),
        )
        if given > limit
    ]
    on_loopback = ports.intersection(frame.loopback_ports)
    return Capture(
        tuple(sorted(addresses)), tuple(sorted(ports)), tuple(refused), "; ".join(beyond), tuple(sorted(on_loopback)),
        _exceptions(frame), tuple(sorted(set(filter(None, map(try_address, frame.catalog[: limits.CATALOG_ADDRESSES]))))),
    )  # fmt: skip


def _exceptions(frame: CaptureFrame) -> Exceptions | None:
    """Without those that can never be captured: for them no fail mode holds."""
    given = len(frame.except_endpoints)
    if frame.fail not in ("open", "closed") or given > limits.CAPTURE_ENDPOINTS or len(frame.except_ports) > limits.CAPTURE_PORTS:
        if frame.fail:
            _log.error("exceptions_refused", fail=frame.fail[:8], endpoints=given, effect="nothing bypasses the agent while it is dead")
        return None
    fail: Fail = "open" if frame.fail == "open" else "closed"
    endpoints = {(ip, port) for text, port in frame.except_endpoints if _is_port(port) and (ip := try_address(text))}
    return Exceptions(fail, tuple(sorted(endpoints)), tuple(sorted(filter(_is_port, set(frame.except_ports)))))


def _is_port(port: int) -> bool:
    return 0 < port <= 65535


def follow_capture(before: Capture, said: Capture) -> Capture:
    """What is captured after `before`: what was said; where that was cut off nothing is let go, as far as there is room.

    Where the catalog is remains known while nobody can tell.
    What is captured and should not be is refused or passed on by a worker; what is not captured and should be goes in clear.
    """
    said = replace(said, catalog=said.catalog or before.catalog)
    if not said.overflow:
        return said
    return replace(
        said,
        addresses=_joined(before.addresses, said.addresses, limits.CAPTURE_ADDRESSES),
        ports=_joined(before.ports, said.ports, limits.CAPTURE_PORTS),
        loopback_ports=_joined(before.loopback_ports, said.loopback_ports, limits.CAPTURE_PORTS),
    )


def _joined(before: tuple[_Value, ...], more: tuple[_Value, ...], limit: int) -> tuple[_Value, ...]:
    known = frozenset(before)
    fresh = tuple(value for value in more if value not in known)
    return tuple(sorted(before + fresh[: max(0, limit - len(before))]))


def try_address(text: str) -> str | None:
    """The address in canonical form; None if it is none, or one that must never be captured.

    Loopback is enforced per service and not by address; multicast and broadcast have no connection; link-local holds
    the metadata service of clouds.
    """
    try:
        ip = ipaddress.ip_address(canonical_ip(text))
    except ValueError:
        return None
    never = ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local
    is_broadcast = ip == ipaddress.IPv4Address("255.255.255.255")
    has_zero_network = ip.version == 4 and ip in ipaddress.ip_network("0.0.0.0/8")
    return None if never or is_broadcast or has_zero_network else str(ip)
