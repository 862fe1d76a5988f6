"""Holder processes: each keeps one host's network and mount namespaces open; everything else enters them."""

import subprocess

from nodeagent import limits
from nodeagent.lab import enter, layout, network
from nodeagent.lab.errors import LabError
from nodeagent.lab.layout import Host
from nodeagent.lab.state import Holder, try_start_time

# Backgrounded by a shell that ends, so that init adopts it; $! stays its pid, for nothing below forks.
_START = 'setsid unshare --net --mount --propagation private -- sh -c "$@" & echo "pid $!"'
# Arguments: source and mount point, in turn. The last line closes our pipe: the caller reads up to there.
_HOLD = """
while [ $# -gt 0 ]; do mount --bind "$1" "$2" || exit 1; shift 2; done
echo ready
exec sleep infinity </dev/null >/dev/null 2>&1
"""


def start_hub(hub: Host) -> Holder:
    """A hub with its bridge; the catalog can listen.

    Raises:
        LabError: a program failed; with its words.
    """
    holder = _start(hub, [])
    run_in_network(holder, network.hub_script(hub))
    return holder


def start_host(host: Host, hub_holder: Holder) -> Holder:
    """A host with its addresses up and its own directories mounted.

    Raises:
        LabError: a program failed; with its words.
    """
    mounts = [str(path) for name, at in layout.OWN_DIRECTORIES.items() for path in (host.own(name), at)]
    holder = _start(host, mounts)
    run_in_network(hub_holder, network.link_script(host, holder.pid))
    run_in_network(holder, network.host_script(host))
    return holder


def run_in_network(holder: Holder, script: str) -> None:
    """Runs a shell script in the holder's network namespace (and the machine's file system)."""
    enter.run_tool(["nsenter", f"--net=/proc/{holder.pid}/ns/net", "sh"], stdin=script)


def _start(host: Host, mounts: list[str]) -> Holder:
    argv = enter.in_cgroup(host.holder_cgroup, ["sh", "-c", _START, "sh", _HOLD, "sh", *mounts])
    try:
        done = subprocess.run(argv, text=True, capture_output=True, timeout=limits.LAB_START_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{host.name}: its namespaces were not ready within {limits.LAB_START_S:g} s") from error
    pid = _try_pid(done.stdout)
    started = None if pid is None else try_start_time(pid)
    if pid is None or started is None:
        raise LabError(f"{host.name}: no namespaces: {done.stderr.strip() or 'the holder ended'}; are you root?")
    return Holder(pid, started)


def _try_pid(printed: str) -> int | None:
    """The holder's pid from what it and its shell printed, in whichever order; None: it did not get ready."""
    lines = printed.splitlines()
    pids = [int(line.removeprefix("pid ")) for line in lines if line.startswith("pid ")]
    return pids[0] if pids and "ready" in lines else None
