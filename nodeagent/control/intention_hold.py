"""Which intentions are in force: those of the catalog's list, as far as it proves that they are all.

1. Where a row is gone, its destination is asked for by itself. Without the proof all that was known of it stays.
2. The services of this host, whose callers this host judges, are asked for once each, whether or not anything is gone: what
   was never shown cannot be missed.
3. While there is no proof the list may only deny more. A service of which nothing was known takes no calls.
4. An entry of the KV store stands in the place of rows. Where one is gone its destination is asked for, whatever rows there are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

from nodeagent import limits
from nodeagent.catalog.state import IntentionRow
from nodeagent.control.consul import Catalog
from nodeagent.control.proof import (
    ANYBODY,
    Actions,
    Rows,
    Shown,
    actions_of,
    completed,
    doubts_of,
    in_order,
    read_intentions_to,
    right_to,
    unlisted,
)
from nodeagent.control.token_rights import TokenRights
from nodeagent.model.intention import ANY

_SHOWN = 3
_UNLISTED = "the KV store shows an entry where its key is asked for, and not in the list; was the right to read it given just now?"


async def _nobody_is_foreign() -> str:
    return ""


def lost_rows(before: Iterable[IntentionRow], rows: Rows) -> Rows:
    """Those of `before` of whose pair nothing is said any more."""
    left = {(row.source, row.destination) for row in rows}
    return tuple(row for row in before if (row.source, row.destination) not in left)


def asked_about(lost: Rows) -> tuple[str, ...]:
    """Destinations that the catalog is asked for where these are gone: each that lost a deny, and INTENTION_PROOFS of the others."""
    denies = {row.destination for row in lost if row.action == "deny"}
    others = {row.destination for row in lost} - denies
    return (*sorted(denies), *sorted(others)[: limits.INTENTION_PROOFS])


def held_to(known: Iterable[IntentionRow], rows: Rows, doubted: Collection[str]) -> Rows:
    """`rows`; but of the doubted destinations what was known, and what `rows` denies beyond that."""
    if not doubted:
        return rows
    kept: dict[tuple[str, str], IntentionRow] = {(row.source, row.destination): row for row in known if row.destination in doubted}
    kept |= {
        (row.source, row.destination): _narrower(kept.get((row.source, row.destination)), row)
        for row in rows if row.destination in doubted and row.action == "deny"
    }  # fmt: skip
    return in_order((*(row for row in rows if row.destination not in doubted), *kept.values()))


def _narrower(known: IntentionRow | None, row: IntentionRow) -> IntentionRow:
    """The deny that takes the place of what was known of its pair: of requests it allows none that may have been denied."""
    is_narrower = not row.permissions or (known is not None and (known.action == "allow" or known.permissions == row.permissions))
    return row if is_narrower else row.closed


def closed(rows: Rows, doubted: Collection[str]) -> Rows:
    """`rows`, and a deny for each doubted destination of which they say nothing."""
    silent = set(doubted) - {row.destination for row in rows}
    return in_order((*rows, *(IntentionRow(ANY, name, "deny") for name in silent))) if silent else rows


class IntentionHold:
    """Owned by the follower."""

    def __init__(self, catalog: Catalog, why_foreign: Callable[[], Awaitable[str]] = _nobody_is_foreign) -> None:
        """why_foreign: as Foreign.why."""
        self._why_foreign = why_foreign
        self.rows: Rows | None = None
        """In force; None: no list was taken yet."""
        self.alarm = ""
        """What is not proven, in words."""
        self._catalog = catalog
        self._rights = TokenRights(catalog)
        self._saved: Rows = ()
        self._known: Rows = ()
        """What was in force last, without the denies of `closed`: those end with the doubt."""
        self._listed: Rows = ()
        self._actions: Actions = {}
        """Of `_listed`."""
        self._here: set[str] = set()
        self._proven: set[str] = set()
        self._doubts: dict[str, str] = {}
        self._kept: frozenset[str] | None = None
        """Destinations with an entry in the KV store, and those of which it is not proven that theirs is gone; None: entries there do not count."""
        self._turn = asyncio.Lock()  # two askers at once would forget each other's doubts

    def remember(self, rows: Rows) -> None:
        """Takes over what was in force before this process started."""
        self._saved = self._known = rows

    async def take(self, rows: Rows, kept: Collection[str] | None = None) -> None:
        """After each answer with the list.

        kept: destinations of which the KV store has an entry, which is in `rows`; None: entries there do not count.

        Raises:
            CatalogError: it is not taken, for the catalog could not be asked for proof.
        """
        async with self._turn:
            if why := await self._why_foreign():
                self._actions = actions_of(rows)
                self._hold_all(rows, why)
                return
            lost = lost_rows(self._known, rows)
            suspects, gone = asked_about(lost), self._gone(rows, kept)
            asked = dict.fromkeys((*suspects, *sorted(gone), *sorted(self._here - self._proven)))
            if not rows and not lost:
                asked[ANYBODY] = None
            actions = actions_of(rows)
            shown = await read_intentions_to(self._catalog, asked, with_kept=kept is not None)
            doubts = {name: _UNLISTED for name, said in shown.items() if said.kept - frozenset(kept or ())} | doubts_of(shown, actions)
            if why := next((doubts[name] for name in suspects if name in doubts), ""):  # then of those that were not asked for, too
                doubts |= {row.destination: why for row in lost if row.destination not in asked}
            doubts |= await self._forbidden({row.destination for row in lost} - asked.keys())
            self._kept = None if kept is None else frozenset(kept) | (gone & doubts.keys())
            self._actions = actions
            self._settle(rows, doubts)

    async def vouch(self, service: str, *, is_here: bool) -> str:
        """After each answer with a service's instances: why its intentions are not believed yet; empty: they are, or it is not here.

        Raises:
            CatalogError: the catalog could not be asked.
        """
        if not is_here:
            self._dismiss(service)
        if not is_here or service in self._proven:
            return ""
        async with self._turn:
            if self.rows is None:  # the list, when it comes, asks for it
                self._here.add(service)
                return ""
            if why := await self._why_foreign():
                self._come(service, why)
                self._hold_all(self._listed, why)
                return why
            found = await read_intentions_to(self._catalog, (service,), with_kept=self._kept is not None)
            shown = found.get(service, Shown())
            self._come(service, shown.why_not)
            doubts = {name: why for name, why in self._doubts.items() if name != service}
            if shown.why_not:
                doubts[service] = shown.why_not
            if self._kept is not None:
                self._kept |= shown.kept
            self._settle(self._completed(service, shown), doubts)
            return shown.why_not

    async def _forbidden(self, destinations: Collection[str]) -> dict[str, str]:
        """Why these, of whom nobody was asked, are not proven: many are told of in one answer, by their right alone."""
        return {name: right_to(name) for name in await self._rights.forbidden("intention", destinations)}

    def _gone(self, rows: Rows, kept: Collection[str] | None) -> frozenset[str]:
        """Destinations whose entry in the KV store is gone, or may be: of what was saved nobody knows any more where it stood."""
        if kept is None:
            return frozenset()
        before = self._kept or frozenset()
        if self.rows is None:
            saved = {row.destination for row in self._saved}
            other = set(self._saved) ^ {row for row in rows if row.destination in saved}
            before |= {row.destination for row in other}
        return before - frozenset(kept)

    def _completed(self, service: str, shown: Shown) -> Rows:
        """The list with what it lacks: it may be one of before the right was there, and come anew in minutes only.

        And without the allows of rows in whose place there is an entry.
        """
        if shown.kept:
            said, concerned = actions_of(shown.rows), (service, ANY)
            kept = (row for row in self._listed if row.destination not in concerned or row.word == "deny" or (row.source, row.destination) in said)
            self._listed = tuple(kept)
            self._actions = actions_of(self._listed)
        lacking = unlisted(shown.rows, self._actions)
        if lacking:
            self._listed = completed(self._listed, lacking)
            self._actions = actions_of(self._listed)
        return self._listed

    def _come(self, service: str, doubt: str) -> None:
        """It is here from now on. doubt: why it is not proven that what is known of it is all."""
        if doubt and service not in self._here:
            self._known = tuple(self._vouched(service))
        self._here.add(service)

    def _vouched(self, service: str) -> Iterator[IntentionRow]:
        """What is known, with what of it stays in force for a service that has just come here and is not proven: an allow was shown, and no more."""
        for row in self._known:
            if row.destination != service or row.word == "deny" or row in self._saved:
                yield row
            elif row.action == "deny":
                yield row.closed

    def _dismiss(self, service: str) -> None:
        """It is not here any more: nobody asks for it again before the list changes. What is held of it stays until then."""
        if service not in self._here:
            return
        self._here.discard(service)
        self._proven.discard(service)
        self._doubts.pop(service, None)
        self.alarm = _alarm(self._doubts)

    def _hold_all(self, rows: Rows, why: str) -> None:
        """Of another cluster nothing counts that allows more, or says less. Who was vouched for takes the calls that it took."""
        proven, unproven = self._proven, self._here - self._proven
        destinations = {row.destination for row in (*self._known, *rows)} | unproven
        self._settle(rows, dict.fromkeys(destinations or (ANYBODY,), why))
        self.rows, self._proven = closed(self._known, unproven), proven

    def _settle(self, rows: Rows, doubts: dict[str, str]) -> None:
        self._listed, self._doubts = rows, doubts
        self._proven = (self._proven | self._here) - doubts.keys()
        self._known = held_to(self._known, rows, doubts.keys())
        self.rows = closed(self._known, doubts.keys() - {ANYBODY})
        self.alarm = _alarm(doubts)


def _alarm(doubts: dict[str, str]) -> str:
    named = sorted(doubts.keys() - {ANYBODY})
    if not doubts:
        return ""
    if not named:
        return f"the catalog shows no intention at all, which denies everything, and {doubts[ANYBODY]}"
    more = ", …" if len(named) > _SHOWN else ""
    what = f"the intentions of {len(named)} services ({', '.join(named[:_SHOWN])}{more})" if len(named) > 1 else f"the intentions of {named[0]}"
    return f"{what} are held, as it is not proven that the catalog shows all: {doubts[named[0]]}; what was known stays in force, and nothing more is allowed"
