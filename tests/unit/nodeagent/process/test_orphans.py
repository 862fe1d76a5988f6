"""Workers that a crash has left, told by user and cgroup."""

import os
import subprocess
from pathlib import Path

from nodeagent.process.orphans import end_orphans, find_orphans

UID = 64902


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
