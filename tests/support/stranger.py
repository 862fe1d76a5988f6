"""A user of this machine who has no rights."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UID = 64999
_BECOME = (
    f"import os, sys; os.setgroups([]); os.setresgid({UID}, {UID}, {UID}); os.setresuid({UID}, {UID}, {UID})\n"
    "from nodeagent.cli.main import main; main(sys.argv[1:])"
)


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A directory that this user, too, may look into; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def stranger(*argv: str) -> subprocess.CompletedProcess[str]:
    """What becomes of the command when it is that user who gives it."""
    environ = {**os.environ, "HOME": "/nonexistent"}
    return subprocess.run([sys.executable, "-P", "-c", _BECOME, *argv], capture_output=True, text=True, check=False, cwd="/", env=environ)
