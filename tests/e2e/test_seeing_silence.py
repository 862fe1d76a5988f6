"""What the commands say where an agent hangs, as a whole or in part, or its supervisor was killed: in words, with exit statuses that agree."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.support.eventually import eventually

REFUSED, UNREACHABLE, TIMEOUT = 1, 3, 5
QUESTIONS = ("status", "connections", "services", "certs", "why --from shop --to web", "why b1-1", "enforce --list", "drain --wait 1", "check")
WHY = ("why", "--from", "shop", "--to", "web")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """shop may call web on host2."""
    made = make_lab(hosts=2)
    started = made.run("host2", "web", ["python3", "-m", "http.server", "8080", "--bind", "::"], port=8080)
    assert started
    assert made.exec("host1", "nodeagent", "intention", "allow", "shop", "web").returncode == 0
    return made


@contextmanager
def stopped(lab: Lab, *names: str) -> Iterator[None]:
    """Those of host1's agent that call themselves so; all where none is named."""
    pids = [pid for pid in lab.pids("host1", layout.AGENT) if not names or look.comm(pid) in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: lab.exec("host1", "nodeagent", "status").returncode == 0, 60, "host1 is healthy")


def says(lab: Lab, *command: str) -> tuple[int, str]:
    """The exit status of a command, and all that it prints."""
    done = lab.exec("host1", "nodeagent", *command)
    return done.returncode, done.stdout + done.stderr


def test_where_all_of_it_hangs_every_command_says_so_alike(lab: Lab) -> None:
    """One state, one exit status; who stands still, what becomes of calls, and the command that helps here."""
    with stopped(lab):
        for question in QUESTIONS:
            status, said = says(lab, *question.split())
            assert status == TIMEOUT, (question, said)
            for words in ("did not answer within 5 s", "is stopped (SIGSTOP", "so are the supervisor (", '(fail = "closed")'):
                assert words in said, (question, said)
            assert f"nodeagent lab agent --name {lab.name} host1 restart" in said
            assert "systemctl" not in said
            assert "Errno" not in said


def test_where_control_hangs_calls_go_on_and_so_it_says(lab: Lab) -> None:
    with stopped(lab, "python3"):
        status, said = says(lab, "status")
    assert (status, "meanwhile calls go on" in said, "ask again: " in said) == (TIMEOUT, True, True), said


def test_where_the_supervisor_hangs_why_tells_of_the_fallen_switch(lab: Lab) -> None:
    """What the kernel does, not what the agent would."""
    assert says(lab, *WHY)[0] == 0
    with stopped(lab, "nodeagent"):
        eventually(lambda: says(lab, *WHY)[0] == REFUSED, 30, "the switch has fallen")
        _, said = says(lab, *WHY)
        assert "the dead-man switch has fallen: such new calls are reset" in said
        assert "it is reset now; once an agent beats again: it passes" in said
        status, said = says(lab, "status")
        assert (status, f"nodeagent lab agent --name {lab.name} host1 restart" in said) == (REFUSED, True), said


def test_a_killed_supervisors_listeners_are_kept_by_the_labs_store_and_nothing_hangs(lab: Lab) -> None:
    supervisor = look.status(lab, "host1")["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    try:
        eventually(lambda: not Path(f"/proc/{supervisor}").exists(), 10, "the supervisor has ended")
        eventually(lambda: {look.comm(pid) for pid in lab.pids("host1", layout.AGENT)} <= {"nodeagent-sentr"}, 30, "its workers have ended")
        status, said = says(lab, "check")
        assert status == UNREACHABLE, said
        assert "are held by the lab's store of descriptors, for an agent that is to start again" in said
        assert "nodeagent hangs" not in said
        assert "systemctl" not in said
    finally:
        lab.restart_agent("host1")
