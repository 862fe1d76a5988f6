"""What workers share about requests: ejections go to all of them, and who needs more of a caller's bound gets what others do not need.

Nothing here waits for anybody: a worker says what it has and needs, and what follows from that is told to whom it concerns.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from nodeagent import limits
from nodeagent.decide.breaker import Use, lease
from nodeagent.wire.frames import EjectionRow, PartRow, Shared

_LOOKED_AT = 64
"""Bounds, for one that can go."""


class _Bound(NamedTuple):
    """What is leased."""

    source: str
    service: str
    subset: str
    kind: str


@dataclass(slots=True)
class _Part:
    """One worker's, as far as control knows."""

    held: int = 0
    wanted: int = 0
    told: int = -1
    serial: int = 0
    """Of what it was told last."""
    most: int = 0
    """Of what it was told since it repeated a serial: it may believe any of that."""

    def follow(self, row: PartRow) -> None:
        """What it says of itself; what it has not read yet may be more."""
        if row.serial == self.serial:
            self.most = 0
        self.held, self.wanted = max(row.held, self.most, 0), max(row.wanted, 0)

    def tell(self, share: int) -> None:
        """It will believe that, some time."""
        self.told, self.serial = share, self.serial + 1
        self.most, self.held = max(self.most, share), max(self.held, share)


@dataclass(slots=True)
class _Book:
    """One bound. Owned by Shares."""

    limit: int
    parts: dict[int, _Part] = field(default_factory=dict)

    def due(self) -> list[tuple[int, int]]:
        """Whom to tell which share: nobody, while all have what they want."""
        if all(part.wanted <= part.held for part in self.parts.values()):
            return []
        told = lease(self.limit, [Use(part.held, part.wanted) for part in self.parts.values()])
        pairs = zip(self.parts.items(), told, strict=True)
        return [(number, share) for (number, part), share in pairs if share not in (part.held, part.told) or share > part.held]


class Shares:
    """Owned by control. Workers are known by numbers that are never given again."""

    def __init__(self) -> None:
        self._books: dict[_Bound, _Book] = {}
        self._ejected: dict[tuple[str, str, str, str], float] = {}

    def hear(self, worker: int, said: Shared, others: Iterable[int], now: float) -> dict[int, Shared]:
        """What a worker says; what each is to be told. others: that take part. now: of a clock that never goes back."""
        answers: dict[int, Shared] = {}
        if said.ejections:
            rows = said.ejections[: limits.SHARED_ROWS]
            self._note(rows, now)
            answers = {other: Shared(rows, []) for other in others if other != worker}
        for row in said.parts[: limits.SHARED_ROWS]:
            for to, part in self._lease(worker, row):
                answers.setdefault(to, Shared([], [])).parts.append(part)
        if said.parts:
            answers.setdefault(worker, Shared([], []))  # it is to know that it was heard
        return answers

    def forget(self, worker: int) -> dict[int, Shared]:
        """It has ended, and what it held is for others."""
        answers: dict[int, Shared] = {}
        for bound, book in list(self._books.items()):
            if book.parts.pop(worker, None) is None:
                continue
            if not book.parts:
                del self._books[bound]
            for to, row in self._tell(bound, book):
                answers.setdefault(to, Shared([], [])).parts.append(row)
        return answers

    def ejected(self, source: str, now: float) -> dict[tuple[str, str, str], float]:
        """Instances that are left alone by a caller: service, subset and name, and for how many seconds yet."""
        return {way[1:]: until - now for way, until in self._ejected.items() if way[0] == source and until > now}

    def used(self, source: str) -> list[PartRow]:
        """Bounds of a caller that workers have asked for more of: limit, and what all together hold and want."""
        return [
            PartRow(*bound, book.limit, sum(part.held for part in book.parts.values()), sum(part.wanted for part in book.parts.values()))
            for bound, book in self._books.items()
            if bound.source == source
        ]

    def _note(self, rows: list[EjectionRow], now: float) -> None:
        """For who asks. Those that are over go first, where there are too many."""
        for row in rows:
            self._ejected[row.source, row.service, row.subset, row.instance] = now + row.left_s
        if len(self._ejected) > limits.SHARED_EJECTIONS:
            last = sorted(self._ejected.items(), key=lambda item: item[1])[-limits.SHARED_EJECTIONS // 2 :]
            self._ejected = {way: until for way, until in last if until > now}

    def _lease(self, worker: int, row: PartRow) -> list[tuple[int, PartRow]]:
        bound = _Bound(row.source, row.service, row.subset, row.kind)
        book = self._books.get(bound)
        if book is None:
            self._make_room()
            book = self._books[bound] = _Book(row.limit)
        book.limit = max(row.limit, 0)
        book.parts.setdefault(worker, _Part()).follow(row)
        return self._tell(bound, book)

    def _make_room(self) -> None:
        """Rather one of which nobody wants anything goes; who holds a part of it tells so when it needs more."""
        if len(self._books) >= limits.SHARED_BOUNDS:
            oldest = list(itertools.islice(self._books.items(), _LOOKED_AT))
            idle = (bound for bound, book in oldest if not any(part.wanted for part in book.parts.values()))
            del self._books[next(idle, oldest[0][0])]

    def _tell(self, bound: _Bound, book: _Book) -> list[tuple[int, PartRow]]:
        said = []
        for to, share in book.due():
            part = book.parts[to]
            part.tell(share)
            said.append((to, PartRow(*bound, book.limit, share, 0, part.serial)))
        return said
