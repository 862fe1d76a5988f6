"""What is wrong in an entry, and where."""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from nodeagent import limits


class Fault(NamedTuple):
    """One thing, at a path as Consul's users write it: `Routes[2].Match.HTTP`."""

    path: str
    says: str

    def __str__(self) -> str:
        return f"{self.path}: {self.says}" if self.path else self.says


def below(path: str, key: str | int) -> str:
    """The path of a key, or of a place in a list, of what is at `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def unrelated(faults: Iterable[Fault], known: Collection[Fault]) -> Iterator[Fault]:
    """Those that are no consequence of `known`: neither at, nor above, nor below one of them."""
    at = {fault.path for fault in known}
    related = at | {short for path in at for short in _above(path)}
    return (fault for fault in faults if fault.path not in related and at.isdisjoint(_above(fault.path)))


def capped(faults: Iterable[Fault], told: int) -> list[Fault]:
    """As many of them as are told besides `told` others; beyond, nothing is looked at any more."""
    return list(islice(faults, max(limits.POLICY_FAULTS - told, 0)))


def _above(path: str) -> list[str]:
    """Every path in which this one lies."""
    return ["", *(path[:place] for place, char in enumerate(path) if char in ".[")] if path else []
