"""Changes of entries: planned against what the catalog has, checked as a whole, written in order, each told and recorded."""

import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from nodeagent.catalog.policy.audit import Actor
from nodeagent.catalog.policy.doubts import reference_doubts
from nodeagent.catalog.policy.entries import KINDS, Entry, Key, Spec, read_entry, unacted
from nodeagent.catalog.policy.references import in_order, reference_faults
from nodeagent.catalog.policy.texts import difference
from nodeagent.cli.catalog_api import Client
from nodeagent.cli.policy_store import PolicyStore, Stored, change_of
from nodeagent.cli.render import now
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable, PolicyError

Result = Literal["created", "changed", "unchanged", "deleted", "conflict", "refused", "not tried"]
FAILED: tuple[Result, ...] = ("conflict", "refused", "not tried")
Current = Mapping[Key, Stored]


@dataclass(frozen=True, slots=True)
class Step:
    """One entry: what it says, and what it shall say."""

    key: Key
    before: Stored | None
    after: Entry | None
    """None: it shall go."""
    carried: int | None = None
    """The index in the document by which it shall go, where that has one."""

    @property
    def index(self) -> int:
        """Of the state that is changed: the one that was read with the document, else now."""
        carried = self.after.index if self.after is not None else self.carried
        if carried is not None:
            return carried
        return self.before.index if self.before else 0

    @property
    def result(self) -> Result:
        """What becomes of the entry if all goes well."""
        if self.old == self.new:
            return "unchanged"
        if self.index != (self.before.index if self.before else 0):
            return "conflict"
        return "deleted" if self.after is None else "changed" if self.before else "created"

    @property
    def difference(self) -> list[str]:
        """By lines."""
        return difference(self.old, self.new, str(self.key))

    @property
    def old(self) -> dict[str, Any] | None:
        """What it says."""
        return self.before.body if self.before else None

    @property
    def new(self) -> dict[str, Any] | None:
        """What it shall say."""
        return self.after.said if self.after else None


class Done(NamedTuple):
    """What became of a step."""

    step: Step
    result: Result
    says: str = ""
    """Why, where it failed; what else went wrong, where it did not."""


def plan_changes(given: Mapping[Key, Entry], current: Current) -> list[Step]:
    """The steps that make the catalog say what is given, in the order in which references exist."""
    specs: dict[Key, Spec | None] = {key: entry.spec for key, entry in given.items()}
    return [Step(key, current.get(key), given[key]) for key in in_order(list(given), specs, KINDS)]


def plan_removal(carried: Mapping[Key, int | None], current: Current) -> list[Step]:
    """The steps that remove entries: who refers to others goes first.

    carried: the index in the document of each, where it has one.
    """
    order = in_order(list(carried), _specs(current), KINDS)
    return [Step(key, current.get(key), None, carried[key]) for key in reversed(order)]


def check_plan(steps: Sequence[Step], current: Current, services: Sequence[str]) -> list[str]:
    """What is doubtful about the catalog after these steps that was not before.

    Raises:
        PolicyError: what Consul would refuse in it, and did not find there before.
    """
    before, changed = _specs(current), [step for step in steps if step.result != "unchanged"]
    after = {key: spec for key, spec in before.items() if key not in {step.key for step in changed}}
    after |= {step.key: step.after.spec for step in changed if step.after}
    known = set(reference_faults(before, is_all=True))
    faults = [fault for fault in reference_faults(after, is_all=True) if fault not in known]
    if faults:
        raise PolicyError(*faults)
    given = {step.key: step.after for step in steps if step.after}
    own = reference_doubts({**after, **{key: entry.spec for key, entry in given.items()}}, services, given)
    old = set(_lines(reference_doubts(before, services)))
    others = {key: lines for key, lines in reference_doubts(after, services).items() if key not in given}
    return [
        *(doubt for key, entry in given.items() for doubt in (*own[key], *entry.doubts)),
        *(line for line in _lines(others) if line not in old),
        *unacted(given.values()),
    ]


def carry_out(store: PolicyStore, steps: Iterable[Step], actor: Actor, tell: Callable[[int], None] = lambda _: None) -> list[Done]:
    """What became of each step. tell: hears how many are done.

    Who is refused is tried again after the others, as long as that helps: a reference that is given up in the same breath
    stands in the way of what it leads to.
    """
    done: list[Done] = []
    pending = list(steps)
    while pending:
        refused: list[Done] = []
        for number, step in enumerate(pending):
            try:
                done.append(_do(store, step, actor))
                tell(len(done))
            except (CatalogUnreachable, CatalogTimeout) as error:
                rest = [*(each.step for each in refused), *pending[number + 1 :]]
                told = "; it may have been written: nodeagent policy diff tells" if isinstance(error, CatalogTimeout) else ""
                return [*done, Done(step, "refused", f"{error}{told}"), *(Done(each, "not tried") for each in rest)]
            except CatalogError as error:
                refused.append(Done(step, "refused", str(error)))
        if len(refused) == len(pending):
            return [*done, *refused]
        pending = [each.step for each in refused]
    return done


def find_actor(store: PolicyStore) -> Actor:
    """Who runs this command, with which token."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Actor(uid, user, os.uname().nodename, store.token(), os.environ.get("SUDO_USER", "")[:64])


def record_bodies(client: Client, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """Puts what another command wrote into its entry's trail; why that was not possible, else nothing."""
    try:
        old, new = (read_entry(body) if body is not None else None for body in (before, after))
    except PolicyError as error:
        return f"not recorded for `nodeagent policy history`: {error.faults[0]}"
    found = old or new
    store = PolicyStore(client)
    stored = Stored(old.key, old.said, 0, old) if old else None
    return _record(store, Step(found.key, stored, new), find_actor(store)) if found else ""


def _do(store: PolicyStore, step: Step, actor: Actor) -> Done:
    result = step.result
    if result in ("unchanged", "conflict"):
        return Done(step, result, _why_conflict(step) if result == "conflict" else "")
    taken = store.write(step.after, step.index) if step.after else store.delete(step.key, step.index)
    if not taken:
        return Done(step, "conflict", "was changed by others since it was read a moment ago; look at it, and try again")
    return Done(step, result, _record(store, step, actor))


def _record(store: PolicyStore, step: Step, actor: Actor) -> str:
    """Puts the change into its trail; what went wrong with that, for the change itself is made."""
    change = change_of(step.before, step.after, now(), actor)
    try:
        if change is not None:
            store.record(step.key, change)
    except CatalogError as error:
        is_right = "answered 403" in str(error)  # the change itself was allowed: no word of another token
        why = f"this token may not write the trail of {step.key} in the KV store" if is_right else str(error)
        return f"not recorded for `nodeagent policy history`: {why}"
    return ""


def _why_conflict(step: Step) -> str:
    said = f"its document is of ModifyIndex {step.index}"
    if step.before is None:
        return f"{said}, and the entry is not there any more; leave ModifyIndex out to make it anew"
    return f"{said}, and the catalog has {step.before.index}: somebody changed it since; get it again, or leave ModifyIndex out"


def _specs(current: Current) -> dict[Key, Spec | None]:
    """What the catalog has; None: this version does not understand it, so it is not as if it were not there."""
    return {key: stored.entry.spec if stored.entry else None for key, stored in current.items()}


def _lines(doubts: Mapping[Key, list[str]]) -> list[str]:
    return [line for lines in doubts.values() for line in lines]
