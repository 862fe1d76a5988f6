"""Regular expressions of entries: a bounded number, each looked at once."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.model.patterns import BadPattern, compile_pattern

_FIELDS = ("path_regex", "regex")


class Pattern(NamedTuple):
    """A pattern of an entry, and where it stands."""

    path: str
    text: str


def patterns_of(part: Any, path: str = "") -> Iterator[Pattern]:
    """Every pattern in an entry, or in a part of one, in its order."""
    for key, field, value in _within(part):
        at = below(path, key)
        if isinstance(value, str):
            yield from [Pattern(at, value)] if value and field in _FIELDS else ()
        else:
            yield from patterns_of(value, at)


def number_faults(part: Any) -> Iterator[Fault]:
    """One, where an entry has more different patterns than are compiled for it."""
    seen = set[str]()
    for path, text in patterns_of(part):
        seen.add(text)
        if len(seen) > limits.POLICY_PATTERNS:
            yield Fault(path, f"here the entry has more than {limits.POLICY_PATTERNS} different patterns")
            return


def pattern_fault(pattern: str) -> str:
    """Why this is no pattern, else nothing."""
    return _fault_of(pattern, limits.POLICY_PATTERN_BYTES)


@functools.lru_cache(maxsize=limits.POLICY_PATTERNS_KEPT)
def _fault_of(pattern: str, most: int) -> str:
    """The same for `most` bytes of memory. Kept: what is stored is read again at each write of what refers to it."""
    try:
        compile_pattern(pattern, most)
    except BadPattern as error:
        return str(error)
    return ""


def _within(part: Any) -> Iterator[tuple[str | int, str, Any]]:
    """What is in a part, a list or a table: its key, the name of its field, its value."""
    match part:
        case msgspec.Struct():
            for key, field in zip(part.__struct_encode_fields__, part.__struct_fields__, strict=True):
                yield key, field, getattr(part, field)
        case tuple():
            yield from ((number, "", each) for number, each in enumerate(part))
        case dict():
            yield from ((str(key), "", each) for key, each in part.items())
