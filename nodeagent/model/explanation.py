"""Why a connection goes as it goes: the steps of a decision, each with what it found."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "refused", "note", "unknown"]
"""It goes on; it ends here; it is worth knowing; nobody here can say."""


class Step(msgspec.Struct, frozen=True):
    """One step."""

    what: str
    """`capture`, `switch`, `workload`, `destination`, `mode`, `intention`, `way`, `tunnel`, `certificate`, `callee`, `recorded` or `outcome`."""
    verdict: Verdict
    text: str
    by: str = ""
    """Whose word it is, where it is not this host's own."""
