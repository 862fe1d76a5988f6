"""Who is silent, by what the kernel shows of an agent's processes."""

from pathlib import Path

import pytest

from nodeagent.cli.agent_silent import Part, parts_of, serves_nobody, who_is_silent

UNIT, OTHER = "0::/system.slice/nodeagent.service\n", "0::/system.slice/nginx.service\n"
LIVE = (Part("the supervisor", 7, is_stopped=False), Part("control", 8, is_stopped=False), Part("worker", 9, is_stopped=False))


def process(proc: Path, pid: int, name: str, state: str, *, command: str = "", cgroup: str = UNIT) -> None:
    """One that /proc shows."""
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} 1 7 7 0 -1\n")
    (proc / str(pid) / "cmdline").write_text(command.replace(" ", "\0"))
    (proc / str(pid) / "cgroup").write_text(cgroup)


def stopped(*pids: int) -> tuple[Part, ...]:
    """The three, some of them stopped."""
    return tuple(part._replace(is_stopped=part.pid in pids) for part in LIVE)


def test_the_parts_of_an_agent_are_told_by_their_names_within_its_unit(tmp_path: Path) -> None:
    """Control bears Python's; whoever has only a like name is in another unit."""
    process(tmp_path, 7, "nodeagent", "S", command="python3 /opt/nodeagent/bin/nodeagent run")
    process(tmp_path, 8, "python3", "T", command="python3 -P -m nodeagent.control --config=x")
    process(tmp_path, 9, "nodeagent-w0", "t")
    process(tmp_path, 10, "nodeagent-sentr", "R")
    process(tmp_path, 11, "odd) T (name", "S")
    process(tmp_path, 12, "nodeagent-w1", "T", cgroup=OTHER)
    (tmp_path / "13").mkdir()  # it has just ended
    assert parts_of(7, tmp_path) == (
        Part("the supervisor", 7, is_stopped=False), Part("control", 8, is_stopped=True), Part("worker", 9, is_stopped=True),
        Part("the sentry", 10, is_stopped=False),
    )  # fmt: skip
    assert parts_of(0, tmp_path) == parts_of(99, tmp_path) == ()


@pytest.mark.parametrize(("parts", "said"), [
    (stopped(8), "its control (process 8) is stopped (SIGSTOP, or a debugger)"),
    (stopped(7, 8), "its control (process 8) is stopped (SIGSTOP, or a debugger); so is the supervisor (7)"),
    (stopped(7, 8, 9), "its control (process 8) is stopped (SIGSTOP, or a debugger); so are the supervisor (7), 1 worker (9)"),
    (stopped(9), "its control (process 8) does not answer: it hangs, or this host is too busy; stopped is 1 worker (9)"),
    (stopped(), "its control (process 8) does not answer: it hangs, or this host is too busy"),
    (LIVE[:1], "its control, which answers commands, is not there: the supervisor starts another"),
    ((), ""),
])  # fmt: skip
def test_who_stands_still_is_named(parts: tuple[Part, ...], said: str) -> None:
    assert who_is_silent(parts) == said


@pytest.mark.parametrize(("parts", "falls"), [
    (stopped(7), True), (stopped(9), True), (stopped(8), False), ((*stopped(9), LIVE[2]), False), ((), False), (LIVE[:2], False),
])  # fmt: skip
def test_the_switch_falls_where_who_beats_or_all_who_serve_stand_still(parts: tuple[Part, ...], *, falls: bool) -> None:
    assert serves_nobody(parts) is falls
