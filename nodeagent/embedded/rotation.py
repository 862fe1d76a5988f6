"""How one root of the mesh replaces another: three steps, each of which can be taken back; pure but for `take_step`.

    steady --add--> added --activate--> activated --retire--> steady
           <-drop--       <-deactivate-           <-restore--

After `add` both roots are believed and the old one signs; after `activate` the new one signs, and agents renew with it;
after `retire` the old one is believed by nobody, and tunnels that hang on it are cut. Its key is kept until the next
`add`, so that `restore` finds it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import Conflict


class Phase(StrEnum):
    """Where a rotation is."""

    STEADY = "steady"
    ADDED = "added"
    ACTIVATED = "activated"


class Step(StrEnum):
    """What can be done to the roots."""

    ADD = "add"
    ACTIVATE = "activate"
    RETIRE = "retire"
    DROP = "drop"
    DEACTIVATE = "deactivate"
    RESTORE = "restore"


class Root(NamedTuple):
    """One root of the mesh, as stored."""

    id: str
    cert_pem: str
    key_pem: str
    active: bool
    """It signs."""
    trusted: bool
    """It is believed."""
    create_index: int
    modify_index: int

    def __repr__(self) -> str:
        return f"Root({self.id!r}, active={self.active}, trusted={self.trusted})"


NEXT: Mapping[Phase, Step] = {
    Phase.STEADY: Step.ADD, Phase.ADDED: Step.ACTIVATE, Phase.ACTIVATED: Step.RETIRE,
}  # fmt: skip
BACK: Mapping[Phase, Step] = {
    Phase.STEADY: Step.RESTORE, Phase.ADDED: Step.DROP, Phase.ACTIVATED: Step.DEACTIVATE,
}  # fmt: skip
OTHER_SIGNS = frozenset({Step.ACTIVATE, Step.DEACTIVATE})
"""After these another root signs: a host that has not heard of it yet would refuse its peers."""


def phase_of(roots: list[Root]) -> Phase:
    """Where the rotation of these roots is."""
    believed = [root for root in roots if root.trusted]
    if len(believed) == 1:
        return Phase.STEADY
    return Phase.ACTIVATED if max(believed, key=_age).active else Phase.ADDED


def back_step(roots: list[Root]) -> Step | None:
    """What takes the last step back; None where there was none, or the root that it would need is gone."""
    step = BACK[phase_of(roots)]
    return None if step == Step.RESTORE and all(root.trusted for root in roots) else step


def losing(roots: list[Root], step: Step) -> Root | None:
    """The root that nobody believes any more after `step`."""
    if step not in (Step.RETIRE, Step.DROP):
        return None
    return next(root for root in roots if root.trusted and not root.active)


def check_step(roots: list[Root], step: Step) -> None:
    """Nothing, when `step` is the next one or takes the last one back.

    Raises:
        Conflict: names those that are possible.
    """
    possible = [NEXT[phase_of(roots)], *filter(None, [back_step(roots)])]
    if step not in possible:
        raise Conflict(f"{step} is not possible now (the rotation is {phase_of(roots)}): {' or '.join(possible)}")


def take_step(change: Change, step: Step) -> None:
    """Stores what `step` changes; the new root that `add` needs is the caller's to store."""
    run, index = change.connection.execute, change.index
    if step == Step.ADD:
        run("DELETE FROM roots WHERE trusted = 0")
    elif step == Step.DROP:
        run("DELETE FROM roots WHERE trusted = 1 AND active = 0")
    elif step == Step.RETIRE:
        run("UPDATE roots SET trusted = 0, modify_index = ? WHERE active = 0", (index,))
    elif step == Step.RESTORE:
        run("UPDATE roots SET trusted = 1, modify_index = ? WHERE trusted = 0", (index,))
    else:
        assert step in OTHER_SIGNS
        run("UPDATE roots SET active = 1 - active, modify_index = ? WHERE trusted = 1", (index,))


def _age(root: Root) -> int:
    return root.create_index
