"""What an application can notice of the mesh: the README's table, row by row, with what these tests see of each."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.e2e.support.behaviours import Trace

README = Path(__file__).parents[3] / "README.md"
HEADING = "## What an application can notice"


class Noticed(NamedTuple):
    """A behaviour that is another one in the mesh."""

    row: str
    """The first cell of its row in the README."""
    meshed: Trace


BEHAVIOURS = {
    "nobody_listens": Noticed("A call that nobody takes", ["connected", "<ECONNRESET>"]),
    "full_queue": Noticed("A call to a listener whose queue is full", [True, True, True]),
    "addresses": Noticed("The caller's port", ["dialled", "called", "caller's address"]),
    "segment_size": Noticed("What TCP measures", False),
    "little_room": Noticed("Bytes on their way", [False, True]),
    "urgent_byte": Noticed("Urgent data", ["", "ab!cd<EOF>"]),
}
"""By name of the behaviour. It is so on every way through the mesh on which the behaviour is looked at."""


def documented() -> set[str]:
    """The first cells of the README's table."""
    section = README.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    return set(re.findall(r"^\| (.+?) \|", section, re.MULTILINE)) - {"what"}
