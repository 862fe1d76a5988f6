"""Run inside a host: what the guard does with more addresses than there is room for."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

from nodeagent import limits
from nodeagent.observe.log import configure_log
from nodeagent.process.capture import check_capture
from nodeagent.process.cgroups import own_cgroup
from nodeagent.process.guard import Guard
from nodeagent.wire.frames import CaptureFrame
from redirect.settings import Settings


def main(cgroup_root: str) -> None:
    """Prints what was seen after each step."""
    configure_log("probe")  # on standard error
    limits.CAPTURE_ADDRESSES = 3
    guard = Guard(Settings(agent_uids=(64901, 64902), cgroup_root=cgroup_root))
    guard.install(own_cgroup(Path("/proc/self/cgroup").read_text()))
    found = {}

    def see(step: str) -> None:
        found[step] = [guard.condition, guard.detail, captured()]

    def capture(*numbers: int) -> None:
        guard.capture(check_capture(CaptureFrame([f"10.0.0.{number}" for number in numbers], [])))

    capture(8, 9)
    see("whole")
    capture(1, 2, 3, 4, 5)
    see("cut")
    asyncio.run(guard.check())
    see("checked")
    subprocess.run(["nft", "delete", "table", "inet", "nodeagent"], check=True)
    guard.beat()
    see("repaired")
    found["standing"] = guard.is_standing
    capture(1)
    found["whole_again"] = [guard.condition, captured()]
    guard.close()
    print(json.dumps(found))


def captured() -> list[str]:
    """The addresses in the kernel's set."""
    listed = subprocess.run(
        ["nft", "list", "set", "inet", "nodeagent", "mesh4"], check=True, capture_output=True, text=True
    ).stdout
    return sorted(re.findall(r"10\.0\.0\.\d+", listed))


if __name__ == "__main__":
    main(sys.argv[1])
