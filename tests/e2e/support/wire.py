"""A capture of everything between the hosts of a lab, and what may never be in it."""

import re
import secrets
import signal
import subprocess
import time
from pathlib import Path

from nodeagent import limits
from nodeagent.lab import wire as reader
from nodeagent.lab.lab import Lab

DEADLINE_S = 20.0


def new_canary(word: str = "CANARY") -> str:
    """A text that is nowhere else."""
    return f"{word}-{secrets.token_hex(12)}"


class Wire:
    """tcpdump on the lab's bridge, which every packet between hosts, or to the catalog, crosses once.

    snap_bytes: of each packet; with less than everything, repeat the canary at least that often (bulk transfers).
    but_tunnels: leaves out what is in tunnels, or to or from the catalog.
    """

    def __init__(self, lab: Lab, directory: Path, snap_bytes: int = 262_144, *, but_tunnels: bool = False) -> None:
        self._lab = lab
        self._file = directory / f"wire-{secrets.token_hex(4)}.pcap"
        command = ["tcpdump", "-i", "br0", "-n", "--immediate-mode", "-U", "-Z", "root", "-B", "65536"]
        hub = lab.host("hub")
        only = [f"udp or (tcp and not port {limits.TUNNEL_PORT} and not host {hub.ipv4} and not host {hub.ipv6})"] if but_tunnels else []
        self._process = lab.popen(
            "hub", [*command, "-s", str(snap_bytes), "-w", str(self._file), *only], stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        self._words = self._process.stderr.readline()
        while "listening on" not in self._words:
            line = self._process.stderr.readline()
            assert line, f"tcpdump ended: {self._words}"
            self._words += line

    def read(self) -> bytes:
        """The capture so far; whatever was on the wire before the call is in it."""
        marker = new_canary("MARKER").encode()
        hub = self._lab.host("hub").ipv4
        deadline = time.monotonic() + DEADLINE_S
        while marker not in self._file.read_bytes():
            assert time.monotonic() < deadline, "a packet sent across the bridge was not captured"
            done = self._lab.exec("host1", "bash", "-c", f"printf %s {marker.decode()} >/dev/udp/{hub}/9")
            assert done.returncode == 0, done.stderr
        return self._file.read_bytes()

    def stop(self) -> bytes:
        """Ends the capture; all of it. Fails if the kernel dropped packets: nothing is proven then."""
        if self._process.poll() is None:
            self.read()
            self._process.send_signal(signal.SIGINT)
            self._words += self._process.communicate(timeout=DEADLINE_S)[1]
            dropped = re.search(r"(\d+) packets? dropped by kernel", self._words)
            assert dropped, self._words
            assert int(dropped[1]) == 0, f"the capture has holes: {self._words}"
        return self._file.read_bytes()

    def assert_never_in_clear(self, *canaries: str) -> None:
        """Ends the capture. The hosts did speak, and none of the texts was readable, whole or across packets."""
        capture = self.stop()
        assert reader.read_streams(capture), "nothing crossed the wire: the test proves nothing"
        for canary in canaries:
            assert not reader.shows(capture, canary.encode()), f"{canary} crossed the wire in clear; of\n" + "\n".join(reader.describe(capture))

    def assert_tunnels_only(self) -> None:
        """Ends the capture, made with `but_tunnels`. Outside of tunnels no byte of any application went from host to host."""
        capture = self.stop()
        assert not reader.read_streams(capture), "crossed the wire in clear:\n" + "\n".join(reader.describe(capture))

    def assert_in_clear(self, *canaries: str) -> None:
        """Ends the capture. Each of the texts was readable: this flow is allowed in clear, and the capture works."""
        capture = self.stop()
        for canary in canaries:
            assert reader.shows(capture, canary.encode()), f"{canary} was never seen on the wire"

    def close(self) -> None:
        """Ends the capture and removes the file, whatever happened."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=DEADLINE_S)
        self._file.unlink(missing_ok=True)
