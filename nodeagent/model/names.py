"""What services, datacenters and hosts of the mesh can be called."""

import re

from nodeagent.limits import CATALOG_NAME_CHARS

NAME_PATTERN = r"[a-z0-9]([a-z0-9_.-]{0,126}[a-z0-9])?"
"""Of services and datacenters: what an SNI, a SPIFFE path segment and a systemd unit name can all carry.

Lower case alone, since an SNI has no other: `Web` would be a service that no tunnel reaches.
"""
NAME_RULE = "lower-case letters, digits, and inner - . _, 128 at most"
"""The pattern in words, for messages."""

HOST_NAME_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?"
"""Of hosts: they are in no SNI, and Consul's nodes are often called as their machines are."""
HOST_NAME_RULE = "letters, digits, and inner - . _, 128 at most"
"""The pattern in words, for messages."""

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_HOST_NAME = re.compile(HOST_NAME_PATTERN, re.ASCII)


def is_service_name(text: str) -> bool:
    """Whether a service of the mesh can be called this; `*` and the empty name cannot."""
    return _NAME.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether a host of the mesh can be called this."""
    return _HOST_NAME.fullmatch(text) is not None


def name_complaint(text: str, what: str = "a service") -> str:
    """Why nothing can be called this, with the cure."""
    lowered = text.lower()
    cure = f"; call it {lowered}" if lowered != text and is_service_name(lowered) else ""
    return f"{text[:CATALOG_NAME_CHARS]!r} cannot name {what}: use {NAME_RULE}{cure}"
