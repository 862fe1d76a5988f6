"""Whether an answer that lost instances is believed; pure.

A catalog that was wiped, restored from an old copy or asked with a dead token answers with less than there is, and so
does one from which somebody took a service away on purpose. The answer alone does not tell which. So:

1. An answer that lost at most half of a service's instances is believed.
2. More than half: the catalog must prove that it is in its right mind, by showing this host's own registration to a
   fresh read, and that the token may read the service (`control/proof`). Without that proof what was lost is kept, however
   long that takes.
3. With the proof, a service that had fewer than HOLD_BACK_INSTANCES is believed at once: stopping the only instance, or
   one of two, is everyday work, and a host that kept dialling it would be wrong. Not while the catalog may be an older one (its index
   or its data went back, or it was away and not all has been answered since), which does not know what was registered since: that is 4) for a
   service of any size. Nor is what is held for want of a proof, or as the catalog may be an older one, let go because as many new
   instances came beside it.
4. With the proof, a bigger service keeps what it lost for HOLD_BACK_S from then on. A caller that dials an instance which is really
   gone is refused by its host, as without the hold.

5. Where the token may not read a host any more (`control/hidden`), what was there is kept, whatever else is gone.

What is held is an alarm in `status` the whole time, and an address that another instance has taken meanwhile is let go.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.state import InstanceRow
from nodeagent.control.hidden import why_hidden

Rows = tuple[InstanceRow, ...]

_Key = tuple[str, str]
"""Host and id of an instance."""
_NONE: frozenset[_Key] = frozenset()


class Admitted(NamedTuple):
    """What is in force for a service after an answer."""

    rows: Rows
    lost: Rows = ()
    """Those of `rows` that the answer no longer has."""
    why: str = ""
    """The alarm; empty when nothing is held."""


def lost_rows(before: Rows, answer: Rows) -> Rows:
    """The instances that `answer` no longer has."""
    kept = set(map(_key, answer))
    return tuple(row for row in before if _key(row) not in kept)


def is_suspicious(before: Rows, answer: Rows) -> bool:
    """Whether more than half went, so that a proof is wanted."""
    return 2 * len(lost_rows(before, answer)) > len(before)


class HoldBack:
    """Since when which service is held, and what of it. Owned by the follower."""

    def __init__(self, hold_s: float = limits.HOLD_BACK_S, at_least: int = limits.HOLD_BACK_INSTANCES) -> None:
        self._hold_s = hold_s
        self._at_least = at_least
        self._since: dict[str, float] = {}
        self._held: dict[str, frozenset[_Key]] = {}

    def admit(  # noqa: PLR0913 - what is known of an answer
        self, service: str, before: Rows, answer: Rows, *, doubt: str, now: float, hidden: Collection[str] = (), older: str = ""
    ) -> Admitted:  # fmt: skip
        """What is in force for `service`, where `before` was; the cases are those of this file's first lines.

        doubt: why the answer is not proven; empty: it is, or needs no proof. hidden: hosts that this token may not read.
        older: why the catalog may be an older one than before; empty: it is none.
        """
        lost = lost_rows(before, answer)
        if unseen := tuple(row for row in lost if row.instance.host in hidden):  # 5)
            rest = self.admit(service, _without(before, unseen), answer, doubt=doubt, now=now, older=older)
            why = f"{service}: {len(unseen)} instances are shown no more; kept: {why_hidden({row.instance.host for row in unseen})}"
            return Admitted(rest.rows + unseen, rest.lost + unseen, rest.why or why)
        is_everyday = not (doubt or older) and len(before) < self._at_least
        is_still_held = bool(doubt or older) and not self._held.get(service, _NONE).isdisjoint(map(_key, lost))
        if not (is_suspicious(before, answer) or is_still_held) or is_everyday:  # 1) 3)
            return self._believed(service, answer)
        self._held[service] = frozenset(map(_key, lost))
        what = f"{service}: {len(lost)} of {len(before)} instances vanished at once; kept"
        if doubt:  # 2)
            self._since.pop(service, None)
            return Admitted(answer + lost, lost, f"{what} until it is proven that they are gone: {doubt}")
        since = self._since.setdefault(service, now)
        if now - since >= self._hold_s:
            return self._believed(service, answer)
        more = f"{what} for {self._hold_s - (now - since):.0f} s more"
        return Admitted(answer + lost, lost, f"{more}: {older}" if older else more)  # 4)

    def _believed(self, service: str, answer: Rows) -> Admitted:
        self._since.pop(service, None)
        self._held.pop(service, None)
        return Admitted(answer)


def release_taken(instances: dict[str, Rows], held: Mapping[str, Rows]) -> dict[str, Rows]:
    """`instances`, which may be the very same, without those held rows whose address a row that is neither held nor gone has taken."""
    left = {service: set(map(id, rows)) for service, rows in held.items() if rows and service in instances}
    wanted = {address for service in left for row in held[service] for address in row.instance.addresses}
    if not wanted:
        return instances
    taken = {
        address
        for service, rows in instances.items()
        for row in rows
        for address in row.instance.addresses
        if address in wanted and not row.instance.gone and id(row) not in left.get(service, ())
    }
    released = {service: [row for row in held[service] if taken & set(row.instance.addresses)] for service in left}
    return {**instances, **{service: _without(instances[service], gone) for service, gone in released.items()}}


def _key(row: InstanceRow) -> _Key:
    return row.instance.host, row.instance.id


def _without(rows: Rows, gone: Iterable[InstanceRow]) -> Rows:
    out = set(map(id, gone))
    return tuple(row for row in rows if id(row) not in out)
