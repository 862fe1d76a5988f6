"""What of a request is hashed, so that requests alike go to one instance."""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from nodeagent.decide.match import RequestView
from nodeagent.model.policy.resolving import Cookie, HashPolicy

_ALL = 2**64 - 1
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"/[!-:<-~]*")


class Key(NamedTuple):
    """The hash of a request."""

    value: int | None
    """Of 64 bits; None: it has nothing that is hashed."""
    cookies: tuple[bytes, ...] = ()
    """Of Set-Cookie fields that its answer is to have."""


def key_of(policies: Sequence[HashPolicy], view: RequestView, client_ip: bytes, make: Callable[[], bytes]) -> Key:
    """The hash of all that the policies name, in their order, until a terminal one found something.

    make: a value by chance, for a cookie that the request does not have yet.
    """
    value: int | None = None
    cookies: list[bytes] = []
    for policy in policies:
        found = client_ip if policy.source_ip else _found(policy, view)
        if found is None and policy.field == "cookie" and policy.cookie_config is not None and _TOKEN.fullmatch(policy.field_value):
            found = make()
            cookies.append(_cookie(policy.field_value, found, policy.cookie_config))
        if found is not None:
            value = _mixed(value, hashed(found))
        if value is not None and policy.terminal:
            break
    return Key(value, tuple(cookies))


def hashed(text: bytes) -> int:
    """64 bits, the same on every host and in every worker."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _mixed(value: int | None, more: int) -> int:
    """Both together, in this order."""
    return more if value is None else ((value << 1 | value >> 63) & _ALL) ^ more


def _found(policy: HashPolicy, view: RequestView) -> bytes | None:
    name = policy.field_value
    if policy.field == "header":
        values = view.fields(name.lower().encode())
        return b",".join(values) if values else None
    if policy.field == "query_parameter":
        return view.parameter(name.encode())
    return cookie_of(view, name.encode())


def cookie_of(view: RequestView, name: bytes) -> bytes | None:
    """The value of the first cookie of that name."""
    for field in view.fields(b"cookie"):
        for pair in field.split(b";"):
            key, sign, value = pair.strip().partition(b"=")
            if sign and key == name:
                return value.strip(b'"')
    return None


def _cookie(name: str, value: bytes, said: Cookie) -> bytes:
    """Without a Domain: it is for this host alone."""
    path = f"; Path={said.path}" if _PATH.fullmatch(said.path) else ""
    age = "" if said.session else f"; Max-Age={int(said.ttl.seconds)}"
    return name.encode() + b"=" + value + f"{path}{age}; HttpOnly".encode()
