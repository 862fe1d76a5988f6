"""Elements in the kernel, compared with all that was set: addresses and ports by what watches them, cgroups as nft lists them."""

from collections.abc import Iterator
from pathlib import Path

from redirect.cgroup import element_of, read_mount
from redirect.elements import Elements
from redirect.libnftables import STATELESS, Nft
from redirect.nft import elements_in, parse_table


def find_drift(elements: Elements) -> tuple[str, ...]:
    """How the kernel differs, as sentences; the beat is not looked at. Called inside the host."""
    with Nft() as nft:
        listed = parse_table(nft.run("list table inet nodeagent", flags=STATELESS)).bodies
    stamps = {path: f" : {mark:#010x}" for path, mark in elements._units.items()}
    return (
        *elements.verify_capture(),
        *_differences("set agents", elements_in(listed["set agents"]), dict.fromkeys(elements._agents, "")),
        *_differences("map units", elements_in(listed["map units"]), stamps),
    )


def _differences(heading: str, found: frozenset[str], values: dict[str, str]) -> Iterator[str]:
    """A cgroup that is gone is none: its element, which nft lists as a number, matches nothing."""
    mount = read_mount()
    expected = {f"{element_of(mount, path)}{value}" for path, value in values.items() if Path(mount, path).exists()}
    named = {element for element in found if element.startswith('"')}
    yield from (f"{heading}: {element} is missing" for element in sorted(expected - named))
    yield from (f"{heading}: {element} is not ours" for element in sorted(named - expected))
