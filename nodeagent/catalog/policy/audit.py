"""The trail of an entry: who changed it through nodeagent, and where it was changed from elsewhere."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from nodeagent import limits

Act = Literal["created", "changed", "deleted"]
_LAST = 250_000_000_000  # in the year 9892: a date that can be shown


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did it, as far as the command could tell."""

    uid: int
    user: str
    host: str
    token: str = ""
    """The accessor of the token that was sent, which is no secret; empty: none, or the catalog does not tell."""
    sudo: str = ""
    """Who became that user by sudo."""

    def __str__(self) -> str:
        return f"{f'{self.sudo} as ' if self.sudo else ''}{self.user} ({self.uid}) on {self.host}"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change that was made through nodeagent."""

    at: Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
    """Unix seconds, by the clock of the host of who did it."""
    by: Actor
    act: Act
    before: str = ""
    """The hash of what the entry said; empty: there was none."""
    after: str = ""
    before_text: str = ""
    """What it said, where that is not what the change before this one left."""
    after_text: str = ""


class Trail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The changes of one entry, oldest first."""

    changes: tuple[Change, ...] = ()
    dropped: int = 0
    """Older ones, for which there was no room."""


class Elsewhere(NamedTuple):
    """The entry was changed, and not through nodeagent: between two changes that were, or since the last."""

    since: float
    """Unix seconds; 0: nothing is known before."""
    until: float
    """0: until now."""
    before: str
    after: str


def parse_trail(value: bytes) -> Trail | None:
    """A trail as it is kept; None: a newer version's, or others wrote there, too."""
    try:
        return msgspec.json.decode(value, type=Trail) if value else Trail()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def without_texts(trail: Trail) -> Trail:
    """The changes alone, of which one keeps many in memory."""
    return msgspec.structs.replace(trail, changes=tuple(msgspec.structs.replace(each, before_text="", after_text="") for each in trail.changes))


def extended(trail: Trail, change: Change) -> Trail:
    """The trail with one change more, within its bounds: the oldest go first, then the texts."""
    last = trail.changes[-1].after if trail.changes else ""
    made = msgspec.structs.replace(change, before_text="") if trail.changes and last == change.before else change
    changes = [*trail.changes, made][-limits.POLICY_CHANGES :]
    while len(changes) > 1 and _size(changes) > limits.POLICY_TRAIL_BYTES:
        changes.pop(0)
    if _size(changes) > limits.POLICY_TRAIL_BYTES:
        changes = [msgspec.structs.replace(each, before_text="", after_text="") for each in changes]
    return Trail(tuple(changes), trail.dropped + len(trail.changes) + 1 - len(changes))


def told(trail: Trail, now: str) -> list[Change | Elsewhere]:
    """All that is known of the entry, oldest first. now: the hash of what it says now, empty where it is not there."""
    found: list[Change | Elsewhere] = []
    at, said = 0.0, None if trail.dropped else ""
    for change in trail.changes:
        if said is not None and said != change.before:
            found.append(Elsewhere(at, change.at, said, change.before))
        found.append(change)
        at, said = change.at, change.after
    if said is not None and said != now:
        found.append(Elsewhere(at, 0.0, said, now))
    return found


def _size(changes: Sequence[Change]) -> int:
    return len(msgspec.json.encode(changes))
