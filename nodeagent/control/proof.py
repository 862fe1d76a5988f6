"""Whether a catalog shows all there is: it is asked what it refuses where the right to read is missing.

To a token that may not read, Consul 1.8 answers 200 and leaves rows out, one by one and without a word. Two questions it
refuses: for the intentions of one destination (`match`, which shows all of them) and for a service's discovery chain. So only a
200 of those proves something: an empty list, 403 and 404 are what a weaker token gets as well. Of the KV store a list leaves
out, too, and a single key is refused. The embedded catalog leaves nothing out: who may not read it is refused; it serves no chains.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from nodeagent import limits
from nodeagent.catalog.kept_intentions import kept_path, overlaid, parse_kept
from nodeagent.catalog.legacy_intentions import parse_match
from nodeagent.catalog.state import IntentionRow, parse_hosts
from nodeagent.control.agent_self import is_embedded
from nodeagent.control.consul import CONNECT_OFF, Catalog, CatalogRefused, service_path
from nodeagent.model.intention import ANY

ANYBODY = "nodeagent-proof"
"""A name without rules of its own: who may read its intentions may read every service's that has none either."""

_MATCH = "/v1/connect/intentions/match?by=destination&name="
_CHAIN = "/v1/discovery-chain/"
_NODES = "/v1/catalog/nodes"
NOT_SERVED = (404, 405, 501)
FORBIDDEN = (401, 403)
_AT_ONCE = 8

Rows = tuple[IntentionRow, ...]
Actions = Mapping[tuple[str, str], str]
"""(source, destination) -> what is said of it, all in all."""


def actions_of(rows: Iterable[IntentionRow]) -> Actions:
    """What is said of each pair; of two words the deny."""
    actions: dict[tuple[str, str], str] = {}
    for row in rows:
        if actions.get((row.source, row.destination)) != "deny":
            actions[row.source, row.destination] = row.word
    return actions


def unlisted(shown: Iterable[IntentionRow], listed: Actions) -> Rows:
    """Those of `shown` that `listed` lacks, and the denies of which it says that they allow all or some requests."""
    return tuple(row for row in shown if listed.get((row.source, row.destination)) not in (row.word, "deny"))


def completed(listed: Rows, lacking: Rows) -> Rows:
    """`listed` with these in place of what it says of their pairs."""
    pairs = {(row.source, row.destination) for row in lacking}
    kept = (row for row in listed if (row.source, row.destination) not in pairs)
    return in_order((*kept, *lacking))


def in_order(rows: Iterable[IntentionRow]) -> Rows:
    """As the catalog's answers are parsed: by destination, source and action."""
    return tuple(sorted(rows, key=lambda row: (row.destination, row.source, row.action)))


class Shown(NamedTuple):
    """What the catalog says where it is asked for one destination."""

    rows: Rows = ()
    """All that can decide about a call to it."""
    why_not: str = ""
    """Why that is not proven to be all."""
    kept: frozenset[str] = frozenset()
    """Of which destinations the KV store has the entry that is in `rows`."""


async def read_intentions_to(catalog: Catalog, destinations: Iterable[str], *, with_kept: bool = False) -> dict[str, Shown]:
    """By destination; of more than a few nothing of the embedded catalog, whose list is proof enough.

    with_kept: entries in the KV store count, in the place of rows.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    named = tuple(destinations)
    shown: dict[str, Shown] = {}
    if len(named) > limits.INTENTION_PROOFS and await is_embedded(catalog):
        return shown
    for start in range(0, len(named), _AT_ONCE):
        some = named[start : start + _AT_ONCE]
        shown |= zip(some, await asyncio.gather(*(_shown(catalog, name, with_kept=with_kept) for name in some)), strict=True)
    return shown


def doubts_of(shown: Mapping[str, Shown], listed: Actions) -> dict[str, str]:
    """Why it is not proven that `listed` has all intentions of these destinations; those of which it is are left out."""
    whys = {name: said.why_not or _why_unlike(name, unlisted(said.rows, listed)) for name, said in shown.items()}
    return {name: why for name, why in whys.items() if why}


async def service_doubt(catalog: Catalog, service: str, host: str) -> str:
    """Why it is not proven that the instances of `service` are all that this token is shown; empty: they are.

    host: this one, whose own registration a catalog in its right mind shows.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    return (await service_doubts(catalog, (service,), host))[service]


async def service_doubts(catalog: Catalog, services: Iterable[str], host: str, draw: float = 0.0) -> dict[str, str]:
    """As `service_doubt`, for each of them.

    draw: with which of more than SERVICE_PROOFS is begun, where each would be refused. 0 <= draw < 1.

    Raises:
        CatalogError: the catalog could not be asked.
    """
    named = tuple(services)
    is_many = len(named) > limits.SERVICE_PROOFS  # then the one question that may answer for all comes first
    if is_many and (why := await _host_doubt(catalog, host)):
        return dict.fromkeys(named, why)
    if len(named) > _AT_ONCE and await is_embedded(catalog):
        doubts = dict.fromkeys(named, "")
    elif is_many and (why := await _every_doubt(catalog)):
        start = int(draw * len(named))
        doubts = dict.fromkeys(named, why) | await _chain_doubts(catalog, (named * 2)[start : start + limits.SERVICE_PROOFS])
    else:
        doubts = await _chain_doubts(catalog, named)
    if is_many or "" not in doubts.values():
        return doubts
    why = await _host_doubt(catalog, host)
    return {name: doubt or why for name, doubt in doubts.items()}


async def _host_doubt(catalog: Catalog, host: str) -> str:
    hosts = parse_hosts((await catalog.read(_NODES)).body)
    is_shown = any(each.name == host for each in hosts)
    return "" if is_shown else "the catalog does not show this host's own registration either"


async def _every_doubt(catalog: Catalog) -> str:
    """Why the token may not read just any service: to be refused for each of thousands, each time, would be load for nothing."""
    if not await _chain_doubt(catalog, ANYBODY):
        return ""
    some = f"so {limits.SERVICE_PROOFS} of those that vanished are asked for at a time"
    return f'the token may not read every service (give it service_prefix "" {{ policy = "read" }}), {some}'


async def _chain_doubts(catalog: Catalog, named: tuple[str, ...]) -> dict[str, str]:
    doubts: dict[str, str] = {}
    for start in range(0, len(named), _AT_ONCE):
        some = named[start : start + _AT_ONCE]
        doubts |= zip(some, await asyncio.gather(*(_chain_doubt(catalog, name) for name in some)), strict=True)
    return doubts


async def _chain_doubt(catalog: Catalog, service: str) -> str:
    """Why the service may be one that this token is not shown."""
    try:
        await catalog.read(service_path(_CHAIN, service))
    except CatalogRefused as error:
        if CONNECT_OFF in str(error):  # no failure that passes: what came is to count meanwhile
            return f"what would prove it is not served: {error}"
        right = f'the token may not read the service (give it service "{service}" {{ policy = "read" }})'
        return await _why_refused(catalog, error, right)
    return ""


async def _shown(catalog: Catalog, destination: str, *, with_kept: bool) -> Shown:
    shown = await _match(catalog, destination)
    if not with_kept or shown.why_not:
        return shown
    kept: dict[str, Rows] = {}
    for name in dict.fromkeys((destination, ANY)):
        try:
            answer = await catalog.read(kept_path(name))
        except CatalogRefused as error:
            right = f'the token may not read what the KV store says of {name} (give it key_prefix "nodeagent/config/" {{ policy = "read" }})'
            return Shown(why_not=await _why_refused(catalog, error, right))
        kept |= (await asyncio.to_thread(parse_kept, answer.body)).rows
    return Shown(overlaid(shown.rows, kept), kept=frozenset(kept))


def right_to(destination: str) -> str:
    """In words: it is missing."""
    whom = "every service" if destination == ANYBODY else destination
    return f'the token may not read the intentions of {whom} (give it intentions = "read")'


async def _match(catalog: Catalog, destination: str) -> Shown:
    try:
        answer = await catalog.read(_MATCH + quote(destination, safe=""))
    except CatalogRefused as error:
        return Shown(why_not=await _why_refused(catalog, error, right_to(destination)))
    return Shown(parse_match(answer.body))


def _why_unlike(destination: str, lacking: Rows) -> str:
    if not lacking:
        return ""
    pair = f"{lacking[0].source} -> {lacking[0].destination} ({lacking[0].word})"
    return f"{pair} is shown where {destination} is asked for and not in the list; are its servers of one version?"


async def _why_refused(catalog: Catalog, error: CatalogRefused, forbidden: str) -> str:
    """Why nothing is proven by that refusal; a server that fails is none: it raises again. Empty: the embedded catalog's list is proof enough."""
    if error.status in FORBIDDEN:
        return forbidden
    if error.status not in NOT_SERVED:
        raise error
    return "" if await is_embedded(catalog) else f"what would prove it is not served: {error}"
