"""Config entries: which kinds there are, and how each is kept. What they may say is the policy's own validation."""

from typing import Any

from nodeagent import limits
from nodeagent.catalog.policy.entries import Key, read_entry
from nodeagent.catalog.policy.faults import Fault, capped, unrelated
from nodeagent.catalog.policy.fitting import fit, fold
from nodeagent.catalog.policy.intentions import source_faults
from nodeagent.catalog.policy.patterns import number_faults
from nodeagent.embedded.body import DEFAULT_NAMES
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.errors import PolicyError
from nodeagent.model.intention import Intention
from nodeagent.model.policy.intentions import Source
from nodeagent.model.policy.values import body_of

INTENTIONS = "service-intentions"
KINDS = (
    INTENTIONS, "service-defaults", "proxy-defaults", "mesh", "service-router", "service-splitter", "service-resolver",
    "jwt-provider",
)  # fmt: skip
"""What is kept. Our own kinds are in the KV store, as with Consul."""
CONSULS = (
    "ingress-gateway", "terminating-gateway", "exported-services", "sameness-group", "api-gateway", "bound-api-gateway",
    "inline-certificate", "file-system-certificate", "http-route", "tcp-route", "control-plane-request-limit",
)  # fmt: skip
"""Kinds that Consul keeps besides."""
_SCOPES = {"namespace": "Namespace", "partition": "Partition"}
_ELSEWHERE = {"peer": "Peer", "samenessgroup": "SamenessGroup"}


def check_kind(kind: str) -> str:
    """`kind`, when this catalog keeps such entries.

    Raises:
        Missing: Consul keeps them.
        BadRequest: names those that are kept.
    """
    if kind in CONSULS:
        raise Missing(f"the config entry kind {kind} is not implemented by this catalog; known: {', '.join(KINDS)}")
    if kind not in KINDS:
        raise BadRequest(f"{kind[:80]!r} is no kind of config entry here; known: {', '.join(KINDS)}")
    return kind


def said_key(body: dict[str, Any]) -> Key:
    """Whose entry a body says that it is, before anything else of it is looked at.

    Raises:
        BadRequest, Missing: a kind that is not kept.
    """
    said = {fold(key): value for key, value in body.items()}
    kind, name = (value if isinstance(value := said.get(key), str) else "" for key in ("kind", "name"))
    return Key(check_kind(kind), name[: limits.CATALOG_NAME_CHARS])


def normal_entry(body: dict[str, Any]) -> dict[str, Any]:
    """The entry as it is kept: what was said, checked; intentions with their precedence and in its order.

    Raises:
        BadRequest: an unknown kind, key or value; all that is wrong.
        Missing: a part that this catalog has not.
    """
    said = {fold(key): value for key, value in body.items()}
    check_kind(str(said.get("kind", "")))
    _check_implemented(said, _SCOPES)
    for source in said.get("sources") or () if isinstance(said.get("sources"), list) else ():
        _check_source(source)
    try:
        entry = read_entry(body).body
    except PolicyError as error:
        raise BadRequest("; ".join(error.faults)) from None
    if entry["Kind"] == INTENTIONS:
        entry["Sources"] = sorted_sources([_ranked(source, entry["Name"]) for source in entry["Sources"]])
    return entry


def normal_source(source: dict[str, Any], destination: str) -> dict[str, Any]:
    """One source of an intention as it is kept: with its type and precedence.

    Raises:
        BadRequest, Missing: as `normal_entry`.
    """
    _check_source(source)
    shape, faults = fit(source, Source)
    faults += list(number_faults(shape)) or capped(unrelated(source_faults(shape, destination, ""), faults), len(faults))
    if faults:
        raise BadRequest("; ".join(str(fault if fault.path else Fault("the intention", fault.says)) for fault in faults))
    return _ranked(body_of(shape), destination)


def sorted_sources(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Most specific first, as they are evaluated."""
    return sorted(sources, key=lambda source: (-source["Precedence"], source["Name"]))


def _ranked(source: dict[str, Any], destination: str) -> dict[str, Any]:
    return source | {"Type": "consul", "Precedence": Intention(source["Name"], destination, "deny").precedence}


def _check_source(source: object) -> None:
    if isinstance(source, dict):
        _check_implemented({fold(key): value for key, value in source.items()}, _SCOPES | _ELSEWHERE)


def _check_implemented(said: dict[str, Any], keys: dict[str, str]) -> None:
    """Ignoring one of these would make the entry say more than it does."""
    for folded, key in keys.items():
        if said.get(folded) and not (folded in _SCOPES and said[folded] in DEFAULT_NAMES):
            raise Missing(f"{key} is not implemented by this catalog: leave it out")
