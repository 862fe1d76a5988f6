"""What a crash has left, told by user, cgroup and command."""

import os
import signal
import subprocess
from pathlib import Path

from nodeagent.process.orphans import Kin, end_orphans, end_remains, find_orphans

UID, CONTROL = 64902, 64901


def test_only_the_workers_user_is_meant_and_only_in_the_agents_cgroup(tmp_path: Path) -> None:
    """Whoever else is there stays."""
    processes = [subprocess.Popen(["sleep", "1000"], user=uid) for uid in (UID, UID, 0)]
    try:
        listed = [str(process.pid) for process in processes[1:]]
        (tmp_path / "cgroup.procs").write_text("\n".join([*listed, str(os.getpid()), "999999999"]))
        assert find_orphans(tmp_path, UID) == [processes[1].pid]
        assert end_orphans(tmp_path, UID) == 1
        assert processes[1].wait(10) == -9
        assert [processes[0].poll(), processes[2].poll()] == [None, None]
        assert end_orphans(tmp_path, UID) == 0
        assert end_orphans(tmp_path / "none", UID) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start(name: str, uid: int) -> subprocess.Popen[bytes]:
    """A process of that user that was started by such a command."""
    return subprocess.Popen([name, "1000"], executable="/bin/sleep", user=uid)


def test_what_hangs_of_an_earlier_agent_is_ended_at_once_and_what_should_have_ended_later(tmp_path: Path) -> None:
    """Workers that run finish what they carry; a stopped one never will. Root's other processes are somebody else's."""
    spawner = "nodeagent.process.spawner"
    made = {
        name: start(command, uid)
        for name, command, uid in [
            ("control", "x", CONTROL), ("spawner", spawner, 0), ("worker", spawner, UID), ("shell", "x", 0), ("ours", spawner, 0),
            ("hung control", "x", CONTROL), ("hung spawner", spawner, 0), ("hung worker", spawner, UID), ("hung shell", "x", 0),
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

        assert ended(is_overdue=False) == {"hung control", "hung spawner", "hung worker"}
        assert ended(is_overdue=True) == {"control", "spawner"}
        assert {name for name, process in made.items() if process.poll() is None} == {"worker", "shell", "ours", "hung shell"}
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
