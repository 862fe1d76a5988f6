"""jwt-provider: one way to the keys, keys that are keys, one place for each token."""

import base64
import binascii
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.model.policy.jwt import JwtProvider, KeySet, LocalKeys, Location, RemoteKeys

_KEYS = "JSONWebKeySet"


def jwt_faults(entry: JwtProvider) -> Iterator[Fault]:
    """What is wrong with a jwt-provider entry, beyond its shape."""
    yield from _key_faults(entry.json_web_key_set or KeySet())
    for number, location in enumerate(entry.locations):
        yield from _location_faults(location, below("Locations", number))
    if entry.forwarding is not None and not entry.forwarding.header_name:
        yield Fault("Forwarding.HeaderName", "is missing")


def _key_faults(keys: KeySet) -> Iterator[Fault]:
    if (keys.local is None) == (keys.remote is None):
        yield Fault(_KEYS, "give exactly one of Local and Remote")
    if keys.local is not None:
        yield from _local_faults(keys.local, below(_KEYS, "Local"))
    if keys.remote is not None:
        yield from _remote_faults(keys.remote, below(_KEYS, "Remote"))


def _local_faults(local: LocalKeys, path: str) -> Iterator[Fault]:
    if bool(local.jwks) == bool(local.filename):
        yield Fault(path, "give exactly one of JWKS and Filename")
    elif local.jwks and not _is_key_set(local.jwks):
        yield Fault(below(path, "JWKS"), 'is no key set: base64 of {"keys": [...]}')


def _is_key_set(text: str) -> bool:
    try:
        value = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("keys"), list) and all(isinstance(key, dict) for key in value["keys"])


def _remote_faults(remote: RemoteKeys, path: str) -> Iterator[Fault]:
    if not _is_web_address(remote.uri):
        yield Fault(below(path, "URI"), f"{remote.uri[:80]!r} is no address that begins with https:// or http://")
    backoff = remote.retry_policy and remote.retry_policy.retry_policy_back_off
    if backoff and backoff.max_interval and backoff.base_interval > backoff.max_interval:
        yield Fault(below(path, "RetryPolicy.RetryPolicyBackOff"), "BaseInterval is above MaxInterval")


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        return False


def _location_faults(location: Location, path: str) -> Iterator[Fault]:
    ways = {"Header": location.header, "QueryParam": location.query_param, "Cookie": location.cookie}
    said = {key: way for key, way in ways.items() if way is not None}
    if len(said) != 1:
        yield Fault(path, f"needs exactly one of {', '.join(ways)}")
    for key, way in said.items():
        if not way.name:
            yield Fault(below(below(path, key), "Name"), "is missing")
