"""As which service each id of a host was registered last; pure.

Consul counts a registration from the first one of its id, also where that was another service's: a claim could be made early at a
free port, and be given another name.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import InstanceRow

_Key = tuple[str, str]
"""Host and id of an instance."""


class _Last(NamedTuple):
    """What was said of an id."""

    service: str
    said_at: int


class Renamed:
    """Of all services; of ids that left theirs CATALOG_LEFT are remembered. Owned by whoever judges answers."""

    def __init__(self) -> None:
        self._last: dict[_Key, _Last] = {}
        self._left: dict[_Key, None] = {}
        """Those of them that their service has no more; the one that left first is first."""

    def take(self, service: str, before: Iterable[InstanceRow], rows: Iterable[InstanceRow]) -> tuple[InstanceRow, ...]:
        """What is in force of a service from now on; an instance that was another service's is there since its last change."""
        counted = tuple(self._since(service, row) for row in rows)
        there = {_key(row): row for row in counted if not row.instance.gone}
        for key, row in there.items():
            self._note(service, key, row.said_at)
        self._note_left(service, {_key(row) for row in before} - there.keys())
        return counted

    def _since(self, service: str, row: InstanceRow) -> InstanceRow:
        """A row. One that was first registered after the other was told is another registration; one that is older was there before it."""
        last = self._last.get(_key(row))
        if last is None or last.service == service or row.registered_at > last.said_at or row.said_at <= last.said_at:
            return row
        return msgspec.structs.replace(row, registered_at=row.said_at)

    def _note(self, service: str, key: _Key, said_at: int) -> None:
        """An answer that is older than what is known says nothing of now."""
        last = self._last.get(key)
        if last is None or last.said_at <= said_at:
            self._last[key] = _Last(service, said_at)
            self._left.pop(key, None)

    def _note_left(self, service: str, keys: Iterable[_Key]) -> None:
        for key in sorted(keys):
            if (last := self._last.get(key)) and last.service == service:
                self._left.setdefault(key)
        while len(self._left) > limits.CATALOG_LEFT:
            key = next(iter(self._left))
            del self._left[key], self._last[key]


def _key(row: InstanceRow) -> _Key:
    return row.instance.host, row.instance.id
