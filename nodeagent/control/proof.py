"""Whether a catalog shows all there is: it is asked what it refuses where the right to read is missing.

To a token that may not read, Consul 1.8 answers 200 and leaves rows out, one by one and without a word. Two questions it
refuses: for the intentions of one destination (`match`, which shows all of them) and for a service's discovery chain. So only a
200 of those proves something: an empty list, 403 and 404 are what a weaker token gets as well. The embedded catalog leaves
nothing out: who may not read it is refused.
"""

import asyncio
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from nodeagent.catalog.legacy_intentions import parse_match
from nodeagent.catalog.state import IntentionRow, parse_hosts
from nodeagent.control.agent_self import is_embedded
from nodeagent.control.consul import Catalog, CatalogRefused, service_path

ANYBODY = "nodeagent-proof"
"""A name without rules of its own: who may read its intentions may read every service's that has none either."""

_MATCH = "/v1/connect/intentions/match?by=destination&name="
_CHAIN = "/v1/discovery-chain/"
_NODES = "/v1/catalog/nodes"
NOT_SERVED = (404, 405, 501)
_FORBIDDEN = (401, 403)
_AT_ONCE = 8

Rows = tuple[IntentionRow, ...]


def unlisted(shown: Iterable[IntentionRow], listed: Iterable[IntentionRow]) -> Iterator[IntentionRow]:
    """Those of `shown` that `listed` lacks, and the denies of which it says allow."""
    actions: dict[tuple[str, str], str] = {}
    for row in listed:
        if actions.get((row.source, row.destination)) != "deny":
            actions[row.source, row.destination] = row.action
    for row in shown:
        if actions.get((row.source, row.destination), "") not in (row.action, "deny"):
            yield row


async def intention_doubts(catalog: Catalog, destinations: Iterable[str], listed: Rows) -> dict[str, str]:
    """Why it is not proven that `listed` has all intentions of these destinations; those of which it is are left out.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    doubts: dict[str, str] = {}
    named = tuple(destinations)
    if not named or await is_embedded(catalog):
        return doubts
    for start in range(0, len(named), _AT_ONCE):
        some = named[start : start + _AT_ONCE]
        whys = await asyncio.gather(*(_why_doubted(catalog, name, listed) for name in some))
        doubts |= {name: why for name, why in zip(some, whys, strict=True) if why}
    return doubts


async def service_doubt(catalog: Catalog, service: str, host: str) -> str:
    """Why it is not proven that the instances of `service` are all that this token is shown; empty: they are.

    host: this one, whose own registration a catalog in its right mind shows.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    hosts = parse_hosts((await catalog.read(_NODES)).body)
    if not any(each.name == host for each in hosts):
        return "the catalog does not show this host's own registration either"
    if await is_embedded(catalog):
        return ""
    try:
        await catalog.read(service_path(_CHAIN, service))
    except CatalogRefused as error:
        return _why_refused(error, f'the token may not read the service (give it service "{service}" {{ policy = "read" }})')
    return ""


async def _why_doubted(catalog: Catalog, destination: str, listed: Rows) -> str:
    whom = "every service" if destination == ANYBODY else destination
    try:
        answer = await catalog.read(_MATCH + quote(destination, safe=""))
    except CatalogRefused as error:
        return _why_refused(error, f'the token may not read the intentions of {whom} (give it intentions = "read")')
    for row in unlisted(parse_match(answer.body), listed):
        return f"{row.source} -> {row.destination} ({row.action}) is shown where {whom} is asked for and not in the list; are its servers of one version?"
    return ""


def _why_refused(error: CatalogRefused, forbidden: str) -> str:
    """Why nothing is proven by that refusal; a server that fails is none: it raises again."""
    if error.status in _FORBIDDEN:
        return forbidden
    if error.status in NOT_SERVED:
        return f"what would prove it is not served: {error}"
    raise error
