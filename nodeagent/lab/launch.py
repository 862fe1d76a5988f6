"""Starting a command that goes on by itself, and its exit status for as long as somebody looks."""

import select
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from nodeagent.lab.errors import LabError

# The inner shell moves itself (0 means the writer) before it becomes the command, in a session of its own with its output
# in a log. The outer one stays outside and tells how the command ended; it may be killed, then init adopts the command.
_LAUNCH = """\
( echo 0 >"$1" || exit 125; exec 3>&1 </dev/null >>"$2" 2>&1; echo in >&3; shift 2; exec setsid "$@" 3>&- ) &
wait $!
echo $?
"""


class Launched:
    """A command that was started. Owned by its starter; `with` ends the looking, never the command."""

    def __init__(self, procs_file: Path, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Starts `command` in the cgroup of `procs_file`; when this returns, it is in there.

        Raises:
            LabError: the shell could not start it; with its words.
        """
        argv = ["sh", "-c", _LAUNCH, "sh", str(procs_file), str(log), *command]
        pipe = subprocess.PIPE
        # Unbuffered: what select says holds for what readline finds.
        self._shell = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0)
        self._status: int | None = None
        assert self._shell.stdout is not None
        assert self._shell.stderr is not None
        self._told, self._complaints = self._shell.stdout, self._shell.stderr
        if self._told.readline() != b"in\n":
            words = self._complaints.read().decode(errors="replace").strip()
            self.__exit__()
            raise LabError(f"`{' '.join(command)}` could not be started: {words or 'the shell ended'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._shell.kill()
        self._shell.wait()
        self._told.close()
        self._complaints.close()

    def try_status(self, wait_s: float = 0.0) -> int | None:
        """The exit status of the command itself, as a shell tells it; None: it did not end within `wait_s`."""
        if self._status is None and select.select([self._told], [], [], wait_s)[0]:
            with suppress(ValueError):  # the outer shell was killed: nobody knows
                self._status = int(self._told.readline())
        return self._status
