"""One host alone: its own network and mount namespace and cgroup subtree, and an agent in it, run for real."""

import ctypes
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from nodeagent.process.cgroups import find_cgroup2_mount
from tests.e2e.support.waiting import wait_until

CONTROL_UID, WORKER_UID = 64901, 64902
ADDRESS, ADDRESS6, REMOTE, REMOTE6 = "10.90.1.1", "fd90::1", "10.90.1.2", "fd90::2"
_BIN = Path(sys.executable).parent
_MOUNT = find_cgroup2_mount(Path("/proc/self/mountinfo").read_text())
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
_SETUP = f"""
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up && ip link set v1 up
ip addr add {ADDRESS}/24 dev v0
ip -6 addr add {ADDRESS6}/64 dev v0 nodad
for d in run lib; do mkdir -p $1/$d; done
mkdir -p /run/nodeagent /var/lib/nodeagent
mount --bind $1/run /run/nodeagent
mount --bind $1/lib /var/lib/nodeagent
chown {CONTROL_UID}:0 /var/lib/nodeagent
chmod 770 /var/lib/nodeagent
echo ready
exec sleep infinity
"""


class Solo:
    """A host until the `with` block ends. Owned by one test."""

    def __init__(self, directory: Path, **host: Any) -> None:
        self.name = f"solo-{os.getpid()}-{next(_numbers)}"
        self.cgroup = _MOUNT / self.name
        self.unit = self.cgroup / "system.slice" / "nodeagent.service"
        self.config = directory / "nodeagent.toml"
        self.log = directory / "agent.log"
        self.program = str(_BIN / "nodeagent")
        self._directory = directory
        self._host = {"workers": 2, "drain_s": 5, **host}
        self._holder: subprocess.Popen[str] | None = None
        self._agents: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.unit.mkdir(parents=True)
        self._directory.chmod(0o755)
        command = ["unshare", "--net", "--mount", "sh", "-c", _SETUP, "sh", str(self._directory)]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "ready\n"
        self.config.write_text(self._toml())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder
        assert self._holder.stdout
        self.kill_all()
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        for directory in sorted((p for p in self.cgroup.rglob("*") if p.is_dir()), reverse=True):
            wait_until(lambda directory=directory: _is_removed(directory), f"{directory} is removed")
        wait_until(lambda: _is_removed(self.cgroup), f"{self.cgroup} is removed")

    @property
    def state_dir(self) -> Path:
        """What this host has at /var/lib/nodeagent."""
        return self._directory / "lib"

    def start(
        self, *arguments: str, environ: dict[str, str] | None = None, through: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """`nodeagent run` in its unit's cgroup, started `through` another program; does not wait for anything."""
        command = [*through, self.program, "run", "--config", str(self.config), *arguments]
        with self.log.open("ab") as log:
            agent = subprocess.Popen(
                self.inside(command, self.unit), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(environ or {})},
            )  # fmt: skip
        self._agents.append(agent)
        return agent

    def start_ready(
        self, environ: dict[str, str] | None = None, through: tuple[str, ...] = ()
    ) -> subprocess.Popen[bytes]:
        """The agent, with all workers serving."""
        agent = self.start(environ=environ, through=through)
        wait_until(lambda: self.events("supervisor_ready") or agent.poll() is not None, "the agent is ready")
        assert agent.poll() is None, self.log.read_text()
        return agent

    def inside(self, command: list[str], cgroup: Path | None = None) -> list[str]:
        """The command, in this host's namespaces and the given cgroup."""
        assert self._holder
        enter = ["nsenter", "-t", str(self._holder.pid), "--net", "--mount", "--"]
        if cgroup is None:
            return [*enter, *command]
        return [*enter, "sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(cgroup), *command]

    def run(self, command: list[str], cgroup: Path | None = None, **options: Any) -> str:
        """What the command printed."""
        done = subprocess.run(self.inside(command, cgroup), check=True, capture_output=True, text=True, **options)
        return done.stdout

    def run_python(self, module: str, *arguments: str, cgroup: Path | None = None) -> Any:
        """What a program of these tests found, as JSON."""
        root = Path(__file__).parents[3]
        return json.loads(self.run([sys.executable, "-m", module, *arguments], cgroup, cwd=root))

    def enter_network(self) -> None:
        """Moves the calling thread, and it alone, into this host's network."""
        assert self._holder
        with Path(f"/proc/{self._holder.pid}/ns/net").open() as namespace:
            if _libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        found = []
        for line in self.log.read_text().rpartition("\n")[0].splitlines() if self.log.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict) and event.get("event") == name]

    def pids(self, comm: str) -> list[int]:
        """Processes of the agent with this name."""
        found = []
        for pid in (self.unit / "cgroup.procs").read_text().split():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == comm:
                    found.append(int(pid))
        return found

    def worker(self, number: int) -> int:
        """The pid of a worker; 0: it is not there."""
        return next(iter(self.pids(f"nodeagent-w{number}")), 0)

    def agent_processes(self) -> list[str]:
        """All pids of the agent."""
        return (self.unit / "cgroup.procs").read_text().split()

    def kill_all(self) -> None:
        """Ends whatever is left in this host's cgroups."""
        for procs in self.cgroup.rglob("cgroup.procs"):
            wait_until(lambda procs=procs: not _kill(procs), f"{procs} is empty")
        for agent in self._agents:
            agent.wait()

    def _toml(self) -> str:
        host = "\n".join(f"{key} = {json.dumps(value)}" for key, value in self._host.items())
        return (
            f'[host]\nname = "solo"\naddresses = ["{ADDRESS}", "{ADDRESS6}"]\ncontrol_user = {CONTROL_UID}\n'
            f'worker_user = {WORKER_UID}\n{host}\n[catalog]\naddress = "http://127.0.0.1:8500"\n'
            f'[intercept]\ncgroup_root = "{self.name}"\n'
        )


def _kill(procs: Path) -> list[str]:
    pids = procs.read_text().split()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    return pids


def _is_removed(cgroup: Path) -> bool:
    """A process is gone from the list a moment before it lets go of its cgroup."""
    try:
        cgroup.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@contextmanager
def notify_socket(directory: Path) -> Iterator[socket.socket]:
    """systemd's end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / "notify"))
        sock.settimeout(20)
        yield sock
    (directory / "notify").unlink()
