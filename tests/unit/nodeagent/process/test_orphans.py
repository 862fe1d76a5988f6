"""What a crash has left, told by user, cgroup and command."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from nodeagent.process.orphans import (
    Kin,
    age_s,
    end_orphans,
    end_remains,
    end_sentries,
    end_surplus,
    find_orphans,
    is_orphan,
)

UID, CONTROL = 64902, 64901


def test_only_the_workers_user_is_meant_and_only_in_the_agents_cgroup(tmp_path: Path) -> None:
    """Whoever else is there stays."""
    processes = [subprocess.Popen(["sleep", "1000"], user=uid) for uid in (UID, UID, 0)]
    try:
        listed = [str(process.pid) for process in processes[1:]]
        (tmp_path / "cgroup.procs").write_text("\n".join([*listed, str(os.getpid()), "999999999"]))
        assert find_orphans(tmp_path, UID) == [processes[1].pid]
        assert [is_orphan(process.pid, Kin(tmp_path, CONTROL, UID)) for process in processes] == [False, True, False]
        assert end_orphans(tmp_path, UID) == 1
        assert processes[1].wait(10) == -9
        assert [processes[0].poll(), processes[2].poll()] == [None, None]
        assert end_orphans(tmp_path, UID) == 0
        assert end_orphans(tmp_path / "none", UID) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start(module: str, uid: int) -> subprocess.Popen[bytes]:
    """A process of that user that was started as such a module."""
    return subprocess.Popen(["x", "-c", "import time; time.sleep(1000)", "-m", module], executable=sys._base_executable, user=uid)


def test_of_many_that_were_left_the_oldest_are_ended(tmp_path: Path) -> None:
    """However often somebody restarts."""
    processes = []
    try:
        for _ in range(4):
            processes.append(subprocess.Popen(["sleep", "1000"], user=UID))
            born = time.clock_gettime(time.CLOCK_BOOTTIME)
            while time.clock_gettime(time.CLOCK_BOOTTIME) - born < 2 / os.sysconf("SC_CLK_TCK"):
                os.sched_yield()  # births are told apart by ticks
        (tmp_path / "cgroup.procs").write_text("\n".join(str(process.pid) for process in reversed(processes)))
        kin = Kin(tmp_path, CONTROL, UID)
        assert end_surplus(kin, 4) == []
        assert end_surplus(kin, 2, [process.pid for process in processes[2:]]) == []
        assert sorted(end_surplus(kin, 2)) == sorted(process.pid for process in processes[:2])
        assert [process.wait(10) for process in processes[:2]] == [-9, -9]
        assert [process.poll() for process in processes[2:]] == [None, None]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_what_hangs_of_an_earlier_agent_is_ended_at_once_and_what_should_have_ended_later(tmp_path: Path) -> None:
    """Workers that run finish what they carry; a stopped one never will. Root's other processes are somebody else's."""
    spawner, program, rules = "nodeagent.process.spawner", "nodeagent.control", "redirect.iptables_helper"
    made = {
        name: start(command, uid)
        for name, command, uid in [
            ("control", program, CONTROL), ("operator", "x", CONTROL), ("copy", program, 0), ("spawner", spawner, 0), ("worker", spawner, UID), ("shell", "x", 0), ("ours", spawner, 0), ("rules", rules, 0),
            ("hung control", program, CONTROL), ("hung spawner", spawner, 0), ("hung worker", spawner, UID), ("hung shell", "x", 0), ("hung rules", rules, 0),
        ]
    }  # fmt: skip
    try:
        for name, process in made.items():
            if name.startswith("hung"):
                process.send_signal(signal.SIGSTOP)
                os.waitpid(process.pid, os.WUNTRACED)
        (tmp_path / "cgroup.procs").write_text("\n".join(str(process.pid) for process in made.values()))
        names = {process.pid: name for name, process in made.items()}
        kin, ours = Kin(tmp_path, CONTROL, UID), [made["ours"].pid]

        def ended(*, is_overdue: bool) -> set[str]:
            pids = end_remains(kin, ours, is_overdue=is_overdue)
            assert [made[names[pid]].wait(10) for pid in pids] == [-9] * len(pids)
            return {names[pid] for pid in pids}

        assert ended(is_overdue=False) == {"hung control", "hung spawner", "hung worker", "hung rules"}
        assert ended(is_overdue=True) == {"control", "spawner", "rules"}
        assert {name for name, process in made.items() if process.poll() is None} == {
            "worker", "operator", "copy", "shell", "ours", "hung shell"
        }  # fmt: skip
    finally:
        for process in made.values():
            process.kill()
            process.wait()


def test_sentries_go_on_until_they_are_relieved(tmp_path: Path) -> None:
    """Whoever their parent is; not our own, nor what is only called so, and nobody outside the agent's cgroup."""
    sentry = "nodeagent.process.sentry"
    made = {name: start(module, uid) for name, module, uid in
            [("left", sentry, 0), ("own", sentry, 0), ("user's", sentry, CONTROL), ("other", sentry + "_x", 0), ("outside", sentry, 0)]}  # fmt: skip
    try:
        (tmp_path / "cgroup.procs").write_text("\n".join(str(process.pid) for name, process in made.items() if name != "outside"))
        kin, own = Kin(tmp_path, CONTROL, UID), made["own"].pid
        assert end_remains(kin, [own, made["other"].pid], is_overdue=True) == []
        assert end_sentries(kin, own) == [made["left"].pid]
        assert made["left"].wait(10) == -9
        assert end_sentries(kin, own) == []
        assert {name for name, process in made.items() if process.poll() is None} == made.keys() - {"left"}
    finally:
        for process in made.values():
            process.kill()
            process.wait()


def test_a_child_of_ours_may_be_a_worker_that_is_being_born(tmp_path: Path) -> None:
    """It still has its spawner's user and command."""
    child = start("nodeagent.process.spawner", 0)
    try:
        (tmp_path / "cgroup.procs").write_text(str(child.pid))
        assert end_remains(Kin(tmp_path, CONTROL, UID), [os.getpid()], is_overdue=True) == []
        assert end_remains(Kin(tmp_path, CONTROL, UID), is_overdue=True) == [child.pid]
    finally:
        child.kill()
        child.wait()


def test_for_how_long_a_process_lives() -> None:
    """Of this one and a younger one."""
    with subprocess.Popen(["sleep", "60"]) as child:
        assert 0 <= age_s(child.pid) < age_s(os.getpid())
        child.kill()
