"""Addresses: one shape, and one type for each meaning."""

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, NewType

_LONGEST = 64
"""Characters: [8 groups of 4 digits]:65535 has 47."""
Ip = IPv4Address | IPv6Address | IPv4Network | IPv6Network
"""Or a whole network."""
_BROADCAST = IPv4Address("255.255.255.255")


class Address(NamedTuple):
    """An IP address in canonical text and a port."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


OriginalDst = NewType("OriginalDst", Address)
"""Where the client wanted to go, before redirection."""


def canonical_ip(text: str) -> str:
    """The one spelling of an IP address that tables are keyed by; an IPv4-mapped address becomes IPv4.

    Raises:
        ValueError: not an IP address.
    """
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def special_kind(ip: Ip) -> str:
    """What keeps an address, or a whole network, from meaning one machine to everybody, in a word; empty: nothing does."""
    kinds = {
        "loopback": ip.is_loopback, "unspecified": ip.is_unspecified, "multicast": ip.is_multicast, "broadcast": ip == _BROADCAST,
        "link-local" if ip.version == 6 else "IPv4 link-local": ip.is_link_local,
    }  # fmt: skip
    return next((kind for kind, holds in kinds.items() if holds), "")


def parse_address(text: str) -> Address:
    """The address in `10.0.0.1:80` or `[fd00::1]:80`.

    Raises:
        ValueError: not of that form, the port is not in 1..65535, or there is a zone (`%eth0`), which means nothing to others.
    """
    if len(text) > _LONGEST or "%" in text:  # peers choose it, and it gets into logs
        raise ValueError(f"{text[:_LONGEST]!r} is too long for an address, or names an interface")
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdecimal() or bracketed != (":" in host):
        raise ValueError(f"{text!r} is not an address of the form ip:port or [ipv6]:port")
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"{text!r}: the port must be in 1..65535")
    return Address(canonical_ip(host[1:-1] if bracketed else host), number)
