"""Starting programs inside a host: in its cgroup first, then in its namespaces, then as the user."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nodeagent.lab import cgroup
from nodeagent.lab.errors import LabError

# The shell moves itself (0 means the writer) before it becomes the command: no moment of that runs elsewhere.
_ENTER = 'echo 0 >"$1" || exit 125; shift; exec "$@"'
# The same for a command in a session of its own with its output in a log; the shell ends, and init adopts the command.
_DAEMON = 'echo 0 >"$1" || exit 125; log=$2; shift 2; setsid "$@" </dev/null >>"$log" 2>&1 &'
# As LimitNOFILE= in the unit: an agent holds two descriptors for each connection.
_MANY_FILES = 'ulimit -Sn "$(ulimit -Hn)" 2>/dev/null; exec "$@"'

_UID_MAX = 2**32 - 2  # the kernel would take the rest of a larger one modulo 2^32: 4294967296 is root
_HARMLESS = ("LANG", "LC_ALL", "TERM", "TZ")  # root's tokens and settings are not another user's


def nodeagent_command() -> str:
    """The path of the `nodeagent` program of this installation.

    Never `python -m nodeagent`: that would import from the current directory, which other users may not be able to read.
    """
    beside = Path(sys.executable).with_name("nodeagent")
    found = str(beside) if beside.exists() else shutil.which("nodeagent")
    if not found:
        raise LabError(f"the nodeagent program is not installed beside {sys.executable}; run script/bootstrap")
    return found


def inside(holder_pid: int, command: Sequence[str], *, user: str = "", at: str) -> list[str]:
    """The argument list that runs `command` in the holder's namespaces, in the directory `at`, as `user`.

    Never `ip netns exec`: it mounts another /sys, after which nft cannot load rules that match cgroups.
    """
    namespaces = (f"--net=/proc/{holder_pid}/ns/net", f"--mount=/proc/{holder_pid}/ns/mnt")
    return ["nsenter", *namespaces, "--", "env", f"--chdir={at}", *(_as_user(user) if user else ()), *command]


def in_cgroup(path: str, command: Sequence[str]) -> list[str]:
    """The argument list that runs `command` in the cgroup `path`, which is made if it is missing."""
    return ["sh", "-c", _ENTER, "sh", str(procs_file(path)), *command]


def with_many_files(command: Sequence[str]) -> list[str]:
    """The argument list that runs `command` with as many open files as the hard limit allows."""
    return ["sh", "-c", _MANY_FILES, "sh", *command]


def environment(user: str = "") -> dict[str, str]:
    """This process's environment, with `nodeagent` to be found on PATH; for another `user`, what tells no secret."""
    path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    ours = str(Path(nodeagent_command()).parent)
    kept = {key: value for key, value in os.environ.items() if not user or key in _HARMLESS}
    return {**kept, "PATH": path if ours in path.split(":") else f"{path}:{ours}"}


def service_environment() -> dict[str, str]:
    """What systemd gives a service: little."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def procs_file(path: str) -> Path:
    """The file by which a process moves itself into the cgroup `path`, which is made if it is missing."""
    return cgroup.make(path) / "cgroup.procs"


def start_daemon(path: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
    """Starts `command` in the cgroup `path`, as a child of init; when this returns, it is in there.

    Raises:
        LabError: the shell could not start it.
    """
    run_tool(["sh", "-c", _DAEMON, "sh", str(procs_file(path)), str(log), *command], env=env)


def run_tool(
    argv: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 30.0, name: str = ""
) -> str:
    """What a program printed. name: what it is called in a failure, where its arguments tell a reader nothing.

    Raises:
        LabError: it is missing, failed or took too long; with its own words.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, env=env, text=True, capture_output=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; run script/bootstrap") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{name or ' '.join(argv)}` did not end within {timeout_s:g} s") from error
    if done.returncode:
        raise LabError(f"`{name or ' '.join(argv)}` failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def tail(log: Path, lines: int, start: int = 0) -> str:
    """The last lines of a log, from the byte `start` on, indented for a message."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (its log is empty)"


def _as_user(user: str) -> tuple[str, ...]:
    """The prefix that becomes `user`, a name or a number.

    Raises:
        LabError: nobody has that name.
    """
    if user.isdecimal() and int(user) > _UID_MAX:
        raise LabError(f"user {user}: a uid is at most {_UID_MAX}")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if not user.isdecimal():
            raise LabError(f"no user {user!r} on this machine; give a number to run without an account") from None
        return ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
    return ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", "--")
