"""Our tables in the kernel: read, compare with the plan, swap."""

import difflib
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from redirect import nft as text
from redirect.errors import RedirectError
from redirect.libnftables import STATELESS, TERSE, Nft, NothingThere
from redirect.plan import KEEPER, MAIN
from redirect.rules import Table

_TWIN = "twin"


@dataclass(frozen=True, slots=True)
class Swap:
    """What turns an installed table, or none, into the planned one, and back."""

    name: str
    forward: str
    back: str
    """With the elements that `forward` takes away, but for those in `back_cgroups`."""
    emptied: tuple[str, ...]
    """Headings of the sets that are new or made anew: whoever owns their elements has to add them again."""
    is_new: bool
    is_asleep: bool = False
    """Somebody has made it dormant: it is to be woken afterwards."""
    dropped: tuple[str, ...] = ()
    """Headings of the installed sets that go, or are made anew: their elements go with them."""
    back_cgroups: str = ""
    """Puts back those elements that name cgroups; nft refuses them all when one of these cgroups has ended."""


def installed_names(nft: Nft) -> tuple[str, ...]:
    """The names of all inet tables, ours and others'."""
    return tuple(re.findall(rf"^table {text.FAMILY} (\S+)$", nft.run(f"list tables {text.FAMILY}"), re.MULTILINE))


def leftover_twins(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that are twins whose makers died before they removed them."""
    return tuple(name for name in names if re.fullmatch(rf"({MAIN}|{KEEPER})_{_TWIN}_\d+", name))


def read_table(nft: Nft, name: str) -> text.Blocks | None:
    """The table as the kernel has it, without counters and without elements; None if there is none."""
    listing = read_listing(nft, name)
    return None if listing is None else text.parse_table(listing)


def read_listing(nft: Nft, name: str) -> str | None:
    """As `read_table`, in the words of nft."""
    try:
        return nft.run(f"list table {text.FAMILY} {name}", flags=STATELESS | TERSE)
    except NothingThere:
        return None


@lru_cache(maxsize=16)
def reference(table: Table) -> text.Blocks:
    """What `read_table` gives when exactly the planned table is installed, in the words of this host's nft.

    Found by loading it for a moment under another name and dormant: packets never see it.
    """
    twin = f"{table.name}_{_TWIN}_{threading.get_native_id()}"
    planned = text.parse_table(text.render_table(table))
    with Nft() as nft:
        nft.run(text.render_removal(twin) + text.render_blocks(twin, planned, dormant=True))
        try:
            listing = nft.run(f"list table {text.FAMILY} {twin}", flags=STATELESS | TERSE)
        finally:
            nft.run(text.render_removal(twin))
    return text.awakened(text.parse_table(listing))


def find_table_drift(nft: Nft, table: Table) -> Iterator[str]:
    """How the installed table differs from the planned one, as sentences."""
    found = read_table(nft, table.name)
    if found is None:
        yield f"table {text.FAMILY} {table.name} is missing"
    else:
        yield from text.differences(table.name, found, reference(table))


def diff_table(nft: Nft, table: Table) -> Iterator[str]:
    """The lines of a diff from the installed table, or none, to the planned one."""
    found = read_table(nft, table.name)
    if found is None:
        yield from (f"+{line}" for line in text.render_table(table).splitlines())
        return
    installed, planned = (text.render_blocks(table.name, blocks).splitlines() for blocks in (found, reference(table)))
    yield from difflib.unified_diff(installed, planned, f"installed/{table.name}", f"planned/{table.name}", lineterm="")


def try_swap(nft: Nft, table: Table) -> Swap | None:
    """How to get to the planned table from what is installed; None if it is there already."""
    found = read_table(nft, table.name)
    if found is None:
        planned = text.render_table(table)
        return Swap(table.name, planned, text.render_removal(table.name), text.parse_table(planned).sets, is_new=True)
    swap = swap_between(table, found, reference(table))
    return _with_elements(nft, swap) if swap and swap.dropped else swap


def swap_back(nft: Nft, swaps: Iterable[Swap]) -> None:
    """The tables as they were before `forward`, with their elements, in one transaction: nothing slips by in between.

    If a cgroup has ended since, elements that name cgroups stay away, and their owner has to add them again.
    """
    swaps = tuple(swaps)
    back = "".join(swap.back for swap in swaps)
    try:
        nft.run(back + "".join(swap.back_cgroups for swap in swaps))
    except RedirectError:
        nft.run(back)


def swap_between(table: Table, found: text.Blocks, expected: text.Blocks) -> Swap | None:
    """How to get from one installed table to another; `expected` is what the planned one looks like in a listing."""
    if found == expected:
        return None
    planned = text.parse_table(text.render_table(table))
    kept = {heading for heading in found.sets if found.bodies[heading] == expected.bodies.get(heading)}
    return Swap(
        table.name,
        forward=text.render_swap(table.name, found=found, wanted=planned, kept=kept),
        back=text.render_swap(table.name, found=planned, wanted=found, kept=kept),
        emptied=tuple(heading for heading in planned.sets if heading not in kept),
        is_new=False,
        is_asleep=found.is_dormant,
        dropped=tuple(heading for heading in found.sets if heading not in kept),
    )


def _with_elements(nft: Nft, swap: Swap) -> Swap:
    """The same, and its way back restores what is in the dropped sets now, with the time that each element has left."""
    listed = text.parse_table(nft.run(f"list table {text.FAMILY} {swap.name}")).bodies
    plain, cgroups = [], []
    for heading in swap.dropped:
        body = listed.get(heading, ())
        elements = sorted(text.elements_in(body))
        if text.holds_cgroups(body):
            # Listed as a number: a cgroup that is gone. It matches nothing, and nft would not take it.
            named = [element for element in elements if element.startswith('"')]
            cgroups.append(text.render_add(swap.name, heading, named))
        else:
            plain.append(text.render_add(swap.name, heading, elements))
    return replace(swap, back=swap.back + "".join(plain), back_cgroups="".join(cgroups))
