"""Why a connection goes as it goes: the steps of a decision, each with what it found."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "refused", "note", "unknown"]
"""It goes on; it ends here; it is worth knowing; nobody here can say."""
LegVerdict = Literal["allow", "deny", "refused"]
"""What an intention says of a request; it does not come so far."""


class Step(msgspec.Struct, frozen=True):
    """One step."""

    what: str
    """`capture`, `switch`, `workload`, `destination`, `mode`, `intention`, `way`, `tunnel`, `certificate`, `callee`, `recorded` or `outcome`."""
    verdict: Verdict
    text: str
    by: str = ""
    """Whose word it is, where it is not this host's own."""


class Candidate(msgspec.Struct, frozen=True):
    """An instance that may get a request, or why it gets none."""

    id: str
    host: str
    addresses: tuple[str, ...]
    weight: int
    state: str
    """`ok`, `unhealthy`, `drained`, `gone`, `weight 0` or `no address`."""
    ejected_s: float = 0.0
    """For how many seconds yet this host's workers leave it alone, since it failed."""
    stand_in: str = ""
    """Whose it is, where that stands in for the target."""


class LegRow(msgspec.Struct, frozen=True):
    """One way of a request: where it leads, and what is said there."""

    percent: float
    """Its share of such requests."""
    target: str
    """`web`, or `web subset v2`."""
    service: str
    subset: str
    stand_ins: tuple[str, ...]
    path: str
    """As it goes on."""
    steps: tuple[Step, ...]
    candidates: tuple[Candidate, ...]
    verdict: LegVerdict
    why: str
    """Who says so."""


class RequestExplanation(msgspec.Struct, frozen=True):
    """Why a request goes where it goes."""

    source: str
    destination: str
    method: str
    path: str
    """As rules read it, with its query."""
    route: str
    """`Routes[1]`, or `default`; empty: it does not come so far."""
    steps: tuple[Step, ...]
    """What is the same for all legs."""
    legs: tuple[LegRow, ...]
    passes: bool
    """Whether every leg leads to an instance, and is allowed."""
    generation: int = 0
