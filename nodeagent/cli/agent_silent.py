"""Who is silent where an agent is there and does not answer: its processes, as the kernel shows them to anybody. Changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_STOPPED = ("T", "t")  # by a signal, or by a debugger
_KINDS = (("nodeagent-spawn", "the spawner"), ("nodeagent-sentr", "the sentry"), ("nodeagent-w", "worker"), ("nodeagent", "the supervisor"))
"""By the names that processes give themselves, the longer ones first; control keeps Python's."""
_CONTROL = "nodeagent.control"


class Part(NamedTuple):
    """One process of the agent."""

    kind: str
    """`the supervisor`, `control`, `the spawner`, `the sentry` or `worker`."""
    pid: int
    is_stopped: bool


def parts_of(supervisor: int, proc: Path = _PROC) -> tuple[Part, ...]:
    """The processes in the supervisor's cgroup; none where it is not to be seen. supervisor: 0: it is not known."""
    unit = _read(proc / str(supervisor) / "cgroup") if supervisor else ""
    if not unit:
        return ()
    pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())
    return tuple(part for pid in pids if _read(proc / str(pid) / "cgroup") == unit for part in _part(pid, proc))


def who_is_silent(parts: tuple[Part, ...]) -> str:
    """A clause: which of them stand still, as far as that can be seen; empty where none of them is known."""
    if not parts:
        return ""
    control = next((part for part in parts if part.kind == "control"), None)
    if control is None:
        return "its control, which answers commands, is not there: the supervisor starts another"
    others = [part for part in parts if part.is_stopped and part.kind != "control"]
    too = f"; so {'is' if len(others) == 1 else 'are'} {_names(others)}" if others and control.is_stopped else ""
    alone = f"; stopped {'is' if len(others) == 1 else 'are'} {_names(others)}" if others and not control.is_stopped else ""
    how = "is stopped (SIGSTOP, or a debugger)" if control.is_stopped else "does not answer: it hangs, or this host is too busy"
    return f"its control (process {control.pid}) {how}{too}{alone}"


def serves_nobody(parts: tuple[Part, ...]) -> bool:
    """Whether the kernel's switch falls, for those stand still who beat or serve."""
    workers = [part.is_stopped for part in parts if part.kind == "worker"]
    return any(part.is_stopped for part in parts if part.kind == "the supervisor") or (bool(workers) and all(workers))


def _part(pid: int, proc: Path) -> Iterator[Part]:
    stat = _read(proc / str(pid) / "stat")
    name, _, rest = stat.partition("(")[2].rpartition(")")  # number (name) state …; a name may have brackets
    kind = "control" if _CONTROL in _read(proc / str(pid) / "cmdline").split("\0") else ""
    kind = kind or next((kind for prefix, kind in _KINDS if name.startswith(prefix)), "")
    if kind:
        yield Part(kind, pid, is_stopped=rest.strip()[:1] in _STOPPED)


def _names(parts: list[Part]) -> str:
    workers = [part for part in parts if part.kind == "worker"]
    words = [f"{part.kind} ({part.pid})" for part in parts if part.kind != "worker"]
    if workers:
        words.append(f"{len(workers)} worker{'s' if len(workers) > 1 else ''} ({', '.join(str(part.pid) for part in workers)})")
    return ", ".join(words)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
