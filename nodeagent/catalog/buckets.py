"""A map that shares what did not change with the map that it was made from: a change copies one small part of it.

To copy a dict of 50,000 rows takes 5 ms, most of them because each of its strings is touched to be counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TypeVar, overload

_COUNT = 256  # of 50,000 rows each has 200, as long as the list of all
_MASK = _COUNT - 1

Value = TypeVar("Value")
Default = TypeVar("Default")


class Buckets(Mapping[str, Value]):
    """Values by name, in dicts by the name's hash. Immutable, but for `fill` while it is made: `changed` gives another one."""

    __slots__ = ("_buckets", "_length")

    def __init__(self) -> None:
        self._buckets: tuple[dict[str, Value], ...] = tuple({} for _ in range(_COUNT))
        self._length = 0

    def fill(self, items: Iterable[tuple[str, Value]]) -> None:
        """Adds these. Only for whoever makes the map, before anybody else has it."""
        buckets = self._buckets
        for key, value in items:
            buckets[hash(key) & _MASK][key] = value
        self._length = sum(map(len, buckets))

    def changed(self, changes: Mapping[str, Value | None]) -> "Buckets[Value]":
        """The same with these values, None: gone; the same object where nothing changes."""
        if not changes:
            return self
        buckets = list(self._buckets)
        for number in {hash(key) & _MASK for key in changes}:
            buckets[number] = buckets[number].copy()
        for key, value in changes.items():
            if value is None:
                buckets[hash(key) & _MASK].pop(key, None)
            else:
                buckets[hash(key) & _MASK][key] = value
        made: Buckets[Value] = Buckets.__new__(Buckets)
        made._buckets = tuple(buckets)
        made._length = sum(map(len, buckets))
        return made

    def put(self, key: str, value: Value) -> None:
        """Another form of a value that is there: for all maps that share it, to which it means the same."""
        bucket = self._buckets[hash(key) & _MASK]
        assert key in bucket
        bucket[key] = value

    def unlike(self, other: "Buckets[Value]") -> Iterator[tuple[dict[str, Value], dict[str, Value]]]:
        """The dicts, of this map and of the other, that the two do not share."""
        pairs = zip(self._buckets, other._buckets, strict=True)  # noqa: SLF001 - its own kind
        return ((ours, theirs) for ours, theirs in pairs if ours is not theirs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Buckets):
            return all(ours == theirs for ours, theirs in self.unlike(other))
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as dict's

    def __getitem__(self, key: str) -> Value:
        return self._buckets[hash(key) & _MASK][key]

    @overload
    def get(self, key: str, /) -> Value | None: ...
    @overload
    def get(self, key: str, /, default: Value | Default) -> Value | Default: ...
    def get(self, key: str, /, default: object = None) -> object:
        """As dict's."""
        return self._buckets[hash(key) & _MASK].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._buckets[hash(key) & _MASK]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._buckets)

    def __len__(self) -> int:
        return self._length


def buckets_of(values: Mapping[str, Value]) -> Buckets[Value]:
    """These in buckets; the same object where they are."""
    if isinstance(values, Buckets):
        return values
    made: Buckets[Value] = Buckets()
    made.fill(values.items())
    return made
