"""What systemd says of the agent's unit. Changes nothing."""

import subprocess
from typing import NamedTuple

_ASKED_S = 2.0  # PID 1 answers at once, or is not there


class Unit(NamedTuple):
    """A unit that does not run."""

    has_failed: bool = False
    """systemd has given it up, and may refuse to start it again for a while."""
    is_disabled: bool = False
    """Nothing starts it at the next boot."""


def look_at(name: str) -> Unit:
    """How it is; a `Unit()` where systemd does not tell."""
    command = ["systemctl", "show", "--property=ActiveState", "--property=UnitFileState", name]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASKED_S, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return Unit()
    return parse_unit(done.stdout)


def parse_unit(shown: str) -> Unit:
    """From what `systemctl show` printed."""
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    return Unit(facts.get("ActiveState") == "failed", facts.get("UnitFileState") == "disabled")
