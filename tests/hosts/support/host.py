"""One real systemd host: systemd-nspawn in namespaces, cgroups and a file tree of its own."""

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nodeagent.lab import cgroup
from tests.hosts.support import groups
from tests.hosts.support.hub import Hub
from tests.hosts.support.image import Release, run

BOOT_S = 60.0
STOP_S = 90.0
RUN_S = 120.0
WAIT_S = 60.0
_REBOOTED = 133  # nspawn's status when the system inside asks for a reboot

# In new network and mount namespaces, which end with the host: mounts its tree, and waits for its network card.
_START = """
set -eu
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/root"
echo ready; read -r _ || true
exec systemd-nspawn --quiet --directory="$2/root" --machine="$3" --hostname="$4" --register=no --keep-unit \
    --capability=CAP_NET_ADMIN --network-namespace-path=/proc/self/ns/net --resolv-conf=off --timezone=off --link-journal=no \
    --boot --console=pipe </dev/null >>"$2/console.log" 2>&1
"""


class Host:
    """Made by `Hosts.up`. `layers` are the file trees below it, uppermost first; what it writes is gone with it."""

    def __init__(self, hub: Hub, name: str, release: Release, layers: tuple[Path, ...], group: str) -> None:
        self.hub, self.name, self.release = hub, name, release
        self.address, self.address6 = hub.new_addresses()
        self._layers, self._group = layers, group
        self._card = f"ve{self.address.rpartition('.')[2]}"
        self._directory = hub.directory / name
        self._process: subprocess.Popen[str] | None = None
        for part in ("up", "work", "root"):
            (self._directory / part).mkdir(parents=True)
        self._prepare()

    @property
    def ssh(self) -> tuple[str, ...]:
        """The beginning of a command line that runs a command as root on this host, from the hub."""
        return (*self.hub.enter, "ssh", *self.hub.ssh_options, f"root@{self.address}")

    def run(
        self, *argv: str, unit: str = "", stdin: str | None = None, check: bool = True, properties: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command as a service of this host would, to its end: in a unit of its own, named `unit` if it matters.

        A string that stands alone is a shell's. check: a status that is not 0 fails the test, with what the command said.
        """
        command = argv if len(argv) > 1 else ("sh", "-c", argv[0])
        options = [f"--unit={unit}"] if unit else []
        options += [f"--property={each}" for each in ("RuntimeMaxSec=120", *properties)]
        systemd_run = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--service-type=exec", *options, "--")
        done = self.enter(*systemd_run, *command, stdin=stdin)
        assert done.returncode == 0 or not check, (
            f"{self.name}: {shlex.join(argv)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def enter(self, *argv: str, stdin: str | None = None, timeout_s: float = RUN_S) -> subprocess.CompletedProcess[str]:
        """Runs a command in this host's namespaces, with more rights than anything in it has; needs no systemd there."""
        inside = ("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd=/")
        clean = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root")
        return subprocess.run([*inside, *clean, *argv], input=stdin, text=True, capture_output=True, check=False, timeout=timeout_s)

    def put(self, path: str, content: str | bytes | Path, *, mode: int = 0o644, owner: str = "root:root") -> None:
        """Writes a file, with its directories: the content, or that of a file or directory of this machine."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            run("cp", "-rT", "--preserve=mode", str(content), str(target))
        else:
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
            target.chmod(mode)
        self.enter("chown", "-R", owner, path)

    def path(self, path: str) -> Path:
        """Where this machine sees a file of the host."""
        return Path(f"/proc/{self.leader}/root/{path.lstrip('/')}")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.enter("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self, *units: str, boot: str = "0") -> list[dict[str, str]]:
        """The journal's entries, oldest first; `__MONOTONIC_TIMESTAMP` is in microseconds. boot: "all" for every boot."""
        names = [f"--unit={unit}" for unit in units]
        self.enter("journalctl", "--sync")
        said = self.enter("journalctl", "--output=json", "--all", f"--boot={boot}", *names).stdout
        return [json.loads(line) for line in said.splitlines()]

    def messages(self, *units: str, boot: str = "0") -> str:
        """The journal's messages, a line each."""
        return "\n".join(str(entry.get("MESSAGE", "")) for entry in self.journal(*units, boot=boot))

    @property
    def console(self) -> str:
        """What was written to the console since the host was made."""
        return (self._directory / "console.log").read_text(errors="replace")

    def start(self) -> None:
        """Switches it on; returns when it has booted, with `state`: running, or degraded when a unit has failed."""
        layers = ":".join(map(str, self._layers))
        environment = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "SYSTEMD_NSPAWN_LOCK": "0"}
        command = ("unshare", "--net", "--mount", "sh", "-c", _START, "sh", layers, str(self._directory), f"{self.hub.run}-{self.name}", self.name)
        with (self._directory / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                groups.joining(self._group, command, environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, text=True,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin, self._process.stdout:
            assert self._process.stdout.readline() == "ready\n", f"{self.name} has no file tree:\n{self.console[-2000:]}"
            self.hub.plug_in(self._card, self._process.pid)
        self.leader = self._find_leader()
        self.state = self.wait_booted()

    def reboot(self) -> None:
        """An orderly reboot: nothing of kernel or network namespace is left; returns when the system has booted."""
        self.enter("systemctl", "reboot")
        assert self._process is not None
        assert self._process.wait(STOP_S) == _REBOOTED, f"{self.name} did not reboot:\n{self.console[-2000:]}"
        self.close()
        self.start()

    def crash(self) -> None:
        """The power fails, and comes back."""
        self.close()
        self.start()

    def close(self) -> None:
        """The host is no more, at once; its files are."""
        groups.end(self._group)
        if self._process is not None:
            self._process.wait(STOP_S)
        self.hub.unplug(self._card)

    def wait_for(self, fact: Callable[[], object], what: str, deadline_s: float = WAIT_S) -> None:
        """Returns when `fact()` is true; fails when it does not become so in time."""
        deadline = time.monotonic() + deadline_s
        while not fact():
            assert time.monotonic() < deadline, f"{self.name}: not within {deadline_s:g} s: {what}"
            time.sleep(0.05)

    def wait_booted(self) -> str:
        """Waits until every unit has started; `running`, or `degraded` when one has failed."""
        deadline = time.monotonic() + BOOT_S
        while True:
            said = self.enter("systemctl", "is-system-running", "--wait", timeout_s=BOOT_S).stdout.strip()
            if said in ("running", "degraded"):
                return said
            assert self._process is None or self._process.poll() is None, f"{self.name} ended while it booted:\n{self.console[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name} does not boot ({said}):\n{self.console[-2000:]}"
            time.sleep(0.05)

    def _prepare(self) -> None:
        etc = self._directory / "up" / "etc"
        files = {
            "hostname": f"{self.name}\n",
            "machine-id": "",  # systemd makes one
            "resolv.conf": "",  # nobody waits for a name server that is not there
            "hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n",
            "systemd/network/10-eth0.network": (
                "[Match]\nName=eth0\n[Link]\nRequiredForOnline=yes\n[Network]\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n"
                f"[Address]\nAddress={self.address}/24\n[Address]\nAddress={self.address6}/64\nDuplicateAddressDetection=none\n"
                f"[Route]\nGateway={self.hub.address}\n"
            ),
            "ssh/ssh_host_ed25519_key": self.hub.key.read_text(),
            "ssh/sshd_config.d/harness.conf": "UseDNS no\nPermitRootLogin prohibit-password\nHostKey /etc/ssh/ssh_host_ed25519_key\n",
        }
        for name, content in files.items():
            (etc / name).parent.mkdir(parents=True, exist_ok=True)
            (etc / name).write_text(content)
        (etc / "ssh/ssh_host_ed25519_key").chmod(0o600)
        wants = etc / "systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "systemd-networkd.service").symlink_to("/lib/systemd/system/systemd-networkd.service")
        keys = self._directory / "up" / "root" / ".ssh"
        keys.mkdir(parents=True, mode=0o700)
        keys.parent.chmod(0o700)
        (keys / "authorized_keys").write_text(self.hub.key.with_suffix(".pub").read_text())

    def _find_leader(self) -> int:
        """The process that is number 1 inside."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            for pid, lines in _statuses(cgroup.pids(self._group)):
                if lines.get("NSpid", "").split()[1:] == ["1"] and lines["Name"] == "systemd":
                    return pid
            assert self._process is None or self._process.poll() is None, f"{self.name} ended before it booted:\n{self.console[-2000:]}"
            time.sleep(0.01)
        raise AssertionError(f"{self.name} does not start:\n{self.console[-2000:]}")


def _statuses(pids: tuple[int, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it ended while we looked
            continue
        yield pid, {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
