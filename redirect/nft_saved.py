"""Tables as they were before a change, and the way back to them whatever somebody else has made of them since."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from redirect import nft as text
from redirect.cgroup import read_mount
from redirect.errors import RedirectError
from redirect.libnftables import Nft
from redirect.nft_cgroups import CgroupElement, name_cgroups, read_cgroups
from redirect.tables import read_listing


@dataclass(frozen=True, slots=True)
class Saved:
    """One table with its elements."""

    name: str
    listing: str | None
    """In the words of nft, without elements; None: there was no such table."""
    elements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the heading of their set, as nft lists them."""
    cgroups: Mapping[str, tuple[CgroupElement, ...]] = field(default_factory=dict)
    """Those of sets keyed by cgroup."""
    read_at: float = 0.0
    """When the elements were read: the time that each has left runs from then."""


def save_table(nft: Nft, name: str) -> Saved:
    """The table as it is now. Counters are not part of it."""
    listing = read_listing(nft, name)
    blocks = text.parse_table(listing or "")
    sets = [heading for heading in blocks.sets if not heading.startswith("counter ")]
    of_cgroups = [heading for heading in sets if text.holds_cgroups(blocks.bodies[heading])]
    return Saved(
        name,
        listing,
        read_at=time.monotonic(),
        elements={heading: _listed(nft, name, heading) for heading in sets if heading not in of_cgroups},
        cgroups={heading: read_cgroups(name, heading.partition(" ")[2]) for heading in of_cgroups},
    )


def put_back(nft: Nft, saved: Iterable[Saved]) -> None:
    """Makes those tables anew that are not as they were, with their elements, in one transaction.

    A cgroup may end while nft reads its path. Then the elements that name cgroups stay away, and their owner has to add them again.

    Raises:
        RedirectError: the kernel refused, as where the table is another program's own by now.
    """
    changed = tuple(table for table in saved if not _is_there(nft, table))
    if not changed:
        return
    now = time.monotonic()
    anew = "".join(render_anew(table, now) for table in changed)
    try:
        nft.run(anew + "".join(map(_render_cgroups, changed)))
    except RedirectError:
        nft.run(anew)


def render_anew(saved: Saved, now: float) -> str:
    """The table is destroyed, if it is there, and made as it was; without the elements that name cgroups."""
    if saved.listing is None:
        return text.render_removal(saved.name)
    passed_s = now - saved.read_at
    left = {
        heading: [aged for element in elements if (aged := text.aged(element, passed_s))]
        for heading, elements in saved.elements.items()
    }
    return "".join([
        text.render_removal(saved.name),
        saved.listing,
        *(text.render_add(saved.name, heading, elements) for heading, elements in left.items()),
    ])  # fmt: skip


def _is_there(nft: Nft, saved: Saved) -> bool:
    """Whether the table is as it was; in which order it has its chains is all the same."""
    listing = read_listing(nft, saved.name)
    if listing is None or saved.listing is None:
        return listing is saved.listing
    return text.parse_table(listing) == text.parse_table(saved.listing)


def _render_cgroups(saved: Saved) -> str:
    named = {heading: sorted(name_cgroups(read_mount(), elements)) for heading, elements in saved.cgroups.items()}
    return "".join(text.render_add(saved.name, heading, elements) for heading, elements in named.items())


def _listed(nft: Nft, table: str, heading: str) -> tuple[str, ...]:
    kind, _, name = heading.partition(" ")
    listing = text.parse_table(nft.run(f"list {kind} {text.FAMILY} {table} {name}"))
    return tuple(sorted(text.elements_in(listing.bodies.get(heading, ()))))
