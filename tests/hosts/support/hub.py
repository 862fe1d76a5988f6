"""Where hosts are plugged in: a network namespace with a bridge, which nothing outside can reach; ssh starts there."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.hosts.support import groups
from tests.hosts.support.image import run

_NETWORK, _NETWORK6 = "10.231.0", "fd00:231"
_BRIDGE = f"""
set -e
ip link set lo up
ip link add br0 type bridge
ip addr add {_NETWORK}.254/24 dev br0
ip addr add {_NETWORK6}::fe/64 dev br0 nodad
ip link set br0 up
echo ready
exec sleep infinity </dev/null >/dev/null 2>&1
"""


class Hub:
    """The bridge, the key and the addresses of one run of hosts. `run` is the run's name."""

    def __init__(self, directory: Path, run_name: str, group: str) -> None:
        self.directory, self.run, self._group = directory, run_name, group
        self.address = f"{_NETWORK}.254"
        self._numbers = count(1)
        self.key = directory / "key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "harness", "-f", str(self.key))
        command = groups.joining(group, ("unshare", "--net", "sh", "-c", _BRIDGE), {})
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self._holder.stdout.close()

    @property
    def enter(self) -> tuple[str, ...]:
        """The beginning of a command line that runs a program of this machine at the hub."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--")

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """What ssh needs to reach any host of this hub."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20", "BatchMode=yes")
        return ("-F", "none", "-i", str(self.key), *(part for option in options for part in ("-o", option)))

    def new_addresses(self) -> tuple[str, str]:
        """An IPv4 and an IPv6 address that no host of this run has had."""
        number = next(self._numbers)
        return f"{_NETWORK}.{number}", f"{_NETWORK6}::{number:x}"

    def plug_in(self, card: str, pid: int) -> None:
        """Gives the network namespace of `pid` a card, eth0, that is down and has no address yet; `card` is its end here."""
        run(*self.enter, "ip", "link", "add", card, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        run(*self.enter, "ip", "link", "set", card, "master", "br0", "up")

    def unplug(self, card: str) -> None:
        """Takes the card away, if the host has not taken it along."""
        subprocess.run([*self.enter, "ip", "link", "del", card], check=False, capture_output=True)

    @contextmanager
    def packets(self, expression: str) -> Iterator[list[str]]:
        """What crosses the bridge while the block runs, a line for each packet that the expression takes; there when it ends."""
        tcpdump = ("tcpdump", "-n", "-l", "--immediate-mode", "-Z", "root", "-i", "br0", *expression.split())
        command = groups.joining(self._group, (*self.enter, *tcpdump), {})
        seen: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert running.stderr is not None
            assert any("listening on" in line for line in running.stderr)
            try:
                yield seen
            finally:
                running.terminate()
                seen += filter(None, running.communicate()[0].splitlines())

    def close(self) -> None:
        """Nothing is left of the bridge."""
        groups.end(self._group)
        self._holder.wait()
