"""What is wrong in an entry, and where."""

from collections.abc import Collection, Iterable
from typing import NamedTuple


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


def unrelated(faults: Iterable[Fault], known: Collection[Fault]) -> list[Fault]:
    """Those that are no consequence of `known`: neither at, nor above, nor below one of them."""
    return [fault for fault in faults if not any(_is_above(fault.path, each.path) for each in known)]


def _is_above(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and (not short or long[len(short) : len(short) + 1] in ("", ".", "["))
