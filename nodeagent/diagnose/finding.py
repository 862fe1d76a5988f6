"""What a look at a host found: how bad it is, and what to do."""

from typing import Literal, NamedTuple

import msgspec

Level = Literal["ok", "warning", "failed"]
Group = Literal["host", "kernel", "firewall", "routing", "catalog", "identity", "peers", "time"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's report."""

    group: Group
    name: str
    level: Level
    """`failed`: the mesh does not work, or not as configured; `warning`: it does, and somebody should look."""
    found: str
    cure: str = ""
    """What to do, a command where there is one; empty where nothing needs doing."""


class Verdict(NamedTuple):
    """A finding without its place."""

    level: Level
    found: str
    cure: str = ""


def well(found: str) -> Verdict:
    """Nothing to do."""
    return Verdict("ok", found)


def warn(found: str, cure: str) -> Verdict:
    """It works; somebody should look."""
    return Verdict("warning", found, cure)


def fail(found: str, cure: str) -> Verdict:
    """It does not work, or not as configured."""
    return Verdict("failed", found, cure)
