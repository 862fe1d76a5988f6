"""The supervisor as a root command may signal it: its pid is told by an unprivileged process, so it is looked at first."""

import os
import signal
from pathlib import Path
from typing import Self

from nodeagent.errors import ConfigError

_PROC = Path("/proc")


class SupervisorHandle:
    """A supervisor by its pidfd: the same process also when it has replaced itself. Owned by one command."""

    def __init__(self, pid: int, proc: Path = _PROC) -> None:
        """Opens it first and looks then, so that nobody else can have its number.

        Raises:
            ConfigError: there is no such process, or it is no supervisor: root's, and called nodeagent.
        """
        try:
            if pid <= 1:
                raise ConfigError(_no_supervisor(pid))
            self._pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise ConfigError(f"the supervisor, process {pid}, cannot be found: {error.strerror}") from error
        if not _is_supervisor(proc / str(pid)):
            self.close()
            raise ConfigError(_no_supervisor(pid))

    def reload(self) -> None:
        """Has it become what its program is now.

        Raises:
            OSError: it is gone, or this user may not.
        """
        signal.pidfd_send_signal(self._pidfd, signal.SIGHUP)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def try_program(pid: int, proc: Path = _PROC) -> Path | None:
    """The file by which an agent was started, and is again when it is reloaded; None: it is not known."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    return next((path for word in words if word.startswith("/") and (path := Path(word)).name == "nodeagent"), None)


def _is_supervisor(process: Path) -> bool:
    """By what the kernel says: who owns the directory is no proof, as that of an untraceable process is root's."""
    try:
        status = (process / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    is_root = set(fields.get("Uid", "-").split()) == {"0"}
    return is_root and fields.get("Name", "").strip().startswith("nodeagent")


def _no_supervisor(pid: int) -> str:
    return (
        f"the agent names process {pid} as its supervisor, which is not root's or not called nodeagent, so it is not signalled;"
        " compare: systemctl show -p MainPID nodeagent, then: systemctl restart nodeagent"
    )
