"""Hosts that take no new work: who was put into maintenance, and why. Kept with the host, however often it registers."""

import sqlite3
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from nodeagent.embedded.check import NODE_MAINTENANCE
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import BadRequest, NotFound
from nodeagent.embedded.registrations import (
    CHECKS,
    REGISTRATIONS,
    node_topic,
    read_node,
    read_services_of,
    service_topic,
)

REASON_CHARS = 256

_REASON = Annotated[str, msgspec.Meta(max_length=REASON_CHARS)]


def parse_wish(query: Mapping[str, str]) -> tuple[bool, str]:
    """Whether it is to begin, and why, from `?enable=true&reason=…`.

    Raises:
        BadRequest: neither true nor false, or a reason that is too long.
    """
    enable = query.get("enable", "").lower()  # Python's clients write True
    if enable not in ("true", "false"):
        raise BadRequest("enable: must be true or false")
    try:
        return enable == "true", msgspec.convert(query.get("reason", ""), _REASON)
    except msgspec.ValidationError as error:
        raise BadRequest(f"reason: {error}") from error


def maintain(change: Change, node: str, *, enable: bool, reason: str) -> None:
    """Puts the host into maintenance, or back to work; the same again changes nothing.

    Raises:
        NotFound: there is no such host.
    """
    if read_node(change.connection, node) is None:
        raise NotFound(f"{node} is not registered: the agent there does it when it starts")
    if read_reasons(change.connection).get(node) == (reason if enable else None):
        return
    if enable:
        change.connection.execute("INSERT OR REPLACE INTO maintenance VALUES (?, ?)", (node, reason))
    else:
        change.connection.execute("DELETE FROM maintenance WHERE node = ?", (node,))
    services = {stored.value.name for stored in read_services_of(change.connection, node)}
    change.touch(CHECKS, REGISTRATIONS, node_topic(node), *(service_topic(name) for name in services))


def read_reasons(connection: sqlite3.Connection) -> dict[str, str]:
    """Why hosts are in maintenance, by host: those that are, which are few."""
    return dict(connection.execute("SELECT node, reason FROM maintenance"))


def checks_json(node: str, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
    """The checks of the host, as Consul shows them: this one, or none."""
    if node not in reasons:
        return []
    return [
        {
            "Node": node, "CheckID": NODE_MAINTENANCE, "Name": "Node Maintenance Mode", "Status": "critical",
            "Notes": reasons[node] or "Maintenance mode is enabled for this node", "Output": "", "ServiceID": "", "ServiceName": "",
            "ServiceTags": [], "Type": "maintenance",
        }
    ]  # fmt: skip
