"""What a command's token may not read: Consul leaves that out of a list without a word, so that little is shown proves little.

Consul is asked what the token may do, which needs no right. Who does not tell (the embedded catalog refuses instead; no ACLs) hides nothing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nodeagent.cli.catalog_api import Client
from nodeagent.cli.render import warn
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable

_AUTHORIZE = "/v1/internal/acl/authorize"
_ANYBODY = "nodeagent-proof"
"""A name without rules of its own: who may read this may read all, but what is excepted by name. Both as in `control`, whose HTTP client commands do without."""


class Right(NamedTuple):
    """To read something."""

    resource: str
    segment: str
    what: str
    rule: str
    """That gives it."""

    def __str__(self) -> str:
        return f"this token may not read {self.what} (give it {self.rule})"


SERVICES = Right("service", _ANYBODY, "every service", 'service_prefix "" { policy = "read" }')


def to_intentions(destination: str = "") -> Right:
    """Of one destination, or of all."""
    rule = f'service "{destination}"' if destination else 'service_prefix ""'
    return Right("intention", destination or _ANYBODY, f"the intentions of {destination or 'every service'}", f'{rule} {{ policy = "read" intentions = "read" }}')


def to_keys(prefix: str) -> Right:
    """Of the KV store."""
    return Right("key", prefix, f"{prefix} in the KV store", f'key_prefix "{prefix}" {{ policy = "read" }}')


def to_node(name: str) -> Right:
    """Of the catalog, with what is registered on it."""
    return Right("node", name, f"the node {name}", f'node "{name}" {{ policy = "read" }}')


def lacking(client: Client, rights: Sequence[Right]) -> list[Right]:
    """Those that the token has not, as far as the catalog tells.

    Raises:
        CatalogError: it is out of reach.
    """
    questions = [{"Resource": right.resource, "Access": "read", "Segment": right.segment} for right in rights]
    try:
        answer = client.ask("POST", _AUTHORIZE, questions) if questions else []
    except (CatalogUnreachable, CatalogTimeout):
        raise
    except CatalogError:
        return []
    told = answer if isinstance(answer, list) else []
    refused = {(row.get("Resource"), row.get("Segment", "")) for row in told if _is_refusal(row)}
    return [right for right in rights if (right.resource, right.segment) in refused]


def check_shown(client: Client, rights: Sequence[Right], *, has_rows: bool) -> None:
    """Warns of what may be left out of the rows that were shown.

    Raises:
        CatalogError: none were, which says nothing.
    """
    lacks = lacking(client, rights)
    if lacks and not has_rows:
        raise CatalogError(f"that nothing is shown does not mean that there is nothing: {_told(lacks)}")
    if lacks:
        warn(f"there may be more than is shown: {_told(lacks)}")


def check_proven(client: Client, rights: Sequence[Right]) -> None:
    """Whether an answer may be built upon what the catalog shows.

    Raises:
        CatalogError: it may leave out what matters.
    """
    if lacks := lacking(client, rights):
        raise CatalogError(f"what is shown need not be all: {_told(lacks)}")


def _is_refusal(row: Any) -> bool:
    return isinstance(row, dict) and row.get("Allow") is False


def _told(lacks: Sequence[Right]) -> str:
    return "; ".join(map(str, lacks))
