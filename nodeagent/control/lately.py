"""Instances that the catalog has no more: for HOLD_BACK_S a call to where they were goes to their host's agent, and never in clear; pure.

A caller cannot tell a service that was taken out on purpose from one that was forgotten: with a host that left and comes back, by a
server that was wiped, by one word of whoever may write to the catalog. At an address at which nobody is registered it would pass
calls on in clear. So whatever the reason, and whatever the size of the service, it still asks the agent there, which knows what runs
on its host (`control/forgotten`) and refuses what does not. Somebody else who is registered at the address has it at once.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import InstanceRow
from nodeagent.control.hold_back import Rows, lost_rows
from nodeagent.model.address import Address

_Key = tuple[str, str]
"""Host and id of an instance."""


def there(rows: Iterable[InstanceRow]) -> Rows:
    """Those of `rows` that are not gone."""
    return tuple(row for row in rows if not row.instance.gone)


class Lately:
    """Since when which instance is gone. Owned by the follower."""

    def __init__(self, own: str, hold_s: float = limits.HOLD_BACK_S) -> None:
        """own: this host, of whose instances nothing is kept here."""
        self._own = own
        self._hold_s = hold_s
        self._since: dict[str, dict[_Key, float]] = {}
        """By service."""

    def __bool__(self) -> bool:
        """Whether there are any: they are to be let go in time."""
        return bool(self._since)

    def admit(self, service: str, before: Rows, rows: Rows, now: float) -> Rows:
        """`rows`, and those of `before` that are gone now, or since a while, marked. before: what this gave last, or what was saved.

        Not those in whose place the service has another: each start of an application may register it by a new id.
        """
        known, gone = self._since.pop(service, {}), list[InstanceRow]()
        lost = [row for row in lost_rows(before, rows) if row.instance.host != self._own]
        taken = {address for row in rows for address in row.instance.addresses} if lost else set[Address]()
        for row in lost:
            key = (row.instance.host, row.instance.id)
            at = known.get(key, now)
            if now - at < self._hold_s and not taken.issuperset(row.instance.addresses) and len(gone) < limits.CATALOG_INSTANCES:
                self._since.setdefault(service, {})[key] = at
                taken.update(row.instance.addresses)
                gone.append(row if row.instance.gone else _as_gone(row))
        return rows + tuple(gone)

    def expired(self, instances: Mapping[str, Rows], now: float, *, is_sane: bool) -> Iterator[tuple[str, Rows]]:
        """Services of which something is kept no longer, with what is left. is_sane: the catalog answers, and shows this host; else nothing ends."""
        for service, known in list(self._since.items()):
            if not is_sane:
                self._since[service] = dict.fromkeys(known, now)
            elif any(now - at >= self._hold_s for at in known.values()):
                rows = instances.get(service, ())
                yield service, self.admit(service, rows, there(rows), now)

    def alarms(self, instances: Mapping[str, Rows], hosts: Iterable[str]) -> Iterator[str]:
        """What went together with its host, in words. hosts: those that the catalog shows; what is deregistered there is daily work."""
        shown = set(hosts)
        for service in sorted(self._since):
            lost = sorted({row.instance.host for row in instances.get(service, ()) if row.instance.gone} - shown)
            if lost:
                yield f"{service}: its instances on {', '.join(lost)} vanished with the host; calls there still go to its agent, if it had one, and then nothing in clear"


def _as_gone(row: InstanceRow) -> InstanceRow:
    return msgspec.structs.replace(row, instance=msgspec.structs.replace(row.instance, gone=True, healthy=False))
