"""How far a catalog had counted: one that counts less than before is an older one, or another; pure.

An embedded catalog's index goes back over an outage alone, so what was heard before it is kept; and saved beside the last good
state, for an agent that starts when the other one is there. Where a snapshot is restored beside the running server its index goes on,
and its answers tell which restore they are of.
"""

from collections.abc import Collection

from nodeagent import limits
from nodeagent.catalog.state import RESTORED
from nodeagent.control.pace import has_gone_back, next_index

REWOUND_AT = "rewound_at"
"""Where it is saved since when the catalog is an older one, in Unix seconds."""


class Indexes:
    """The last index of each path that is watched. Owned by the catalog's client."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._unsure: set[str] = set()
        """The paths that were not answered since the catalog was away: any of them may yet show that it is an older one."""
        self._restored: int | None = None
        """The last restore that the catalog told of; None: none of its answers told."""
        self._back_at: float | None = None
        """Since when it answers; None: not since it was away."""

    def is_settled(self, now: float) -> bool:
        """Whether it is known which catalog is there; or was not told within CATALOG_SETTLE_S."""
        return not self._unsure or (self._back_at is not None and now - self._back_at >= limits.CATALOG_SETTLE_S)

    def note_answer(self, now: float) -> None:
        """The catalog is there, whatever it said."""
        if self._back_at is None:
            self._back_at = now

    def note(self, path: str, header: str | None) -> int:
        """Keeps what came with an answer; gives the one before, where this one is lower, else 0.

        The others' are of before then, too: each would tell the same once more, and is forgotten.
        """
        before = self._last.get(path, 0)
        gone_back = has_gone_back(before, header)
        self._unsure.discard(path)
        if gone_back:
            self._last.clear()
            self._unsure.clear()
        self._last[path] = next_index(0, header)
        return before if gone_back else 0

    def note_restored(self, header: str | None) -> bool:
        """Keeps which restore the catalog told of; whether that is another than before. Consul tells of none: its index goes back."""
        if header is None or not (header.isascii() and header.isdecimal()):
            return False
        before, self._restored = self._restored, next_index(0, header) if header != "0" else 0
        return before not in (None, self._restored)

    def keep(self, prefixes: tuple[str, ...], asked: Collection[str]) -> None:
        """Of the paths that begin so these alone are asked for from now on: nobody waits for the others' answers."""
        for path in [path for path in self._last if path.startswith(prefixes) and path not in asked]:
            del self._last[path]
            self._unsure.discard(path)

    def doubt(self) -> None:
        """The catalog is away: another may come back."""
        self._unsure, self._back_at = set(self._last), None

    def saved(self) -> dict[str, int]:
        """All of them, for the disk."""
        return dict(self._last) | ({} if self._restored is None else {RESTORED: self._restored})

    def remember(self, saved: dict[str, int]) -> None:
        """Takes over what was heard before this process started."""
        paths = {path: index for path, index in saved.items() if path.startswith("/")}
        self._restored = saved.get(RESTORED)
        self._last |= paths
        self._unsure |= paths.keys()
