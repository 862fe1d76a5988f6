"""The agent's processes, run for real on one host: privileges, deaths and successors, owners of connections, the end."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from nodeagent import limits
from tests.e2e.support.solo import CONTROL_UID, WORKER_UID, Solo, notify_socket
from tests.e2e.support.waiting import wait_until

SENTRY = "nodeagent-sentr"
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Solo]:
    """A host without an agent yet."""
    with Solo(tmp_path) as solo:
        yield solo


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def listening_inodes(host: Solo) -> list[tuple[str, str]]:
    """(address, inode) of every listening socket of the host but control's for Prometheus."""
    tables = host.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).splitlines()
    rows = [line.split() for line in tables]
    found = ((row[1], row[9]) for row in rows if len(row) > 9 and row[3] == "0A")
    return sorted(row for row in found if not row[0].endswith(f":{limits.METRICS_PORT:04X}"))


def units_in_kernel(host: Solo) -> dict[str, int]:
    """Unit -> mark, as the kernel stamps."""
    text = host.run(["nft", "list", "map", "inet", "nodeagent", "units"])
    return {name: int(mark, 16) for name, mark in re.findall(r'/([^/"]+\.service)" : (0x[0-9a-f]+)', text)}


class TestPrivileges:
    """Who may do what."""

    def test_a_worker_holds_nothing_and_keeps_nothing_from_its_parents(self, host: Solo) -> None:
        """No capability in any set, its own uid, no group, no new privileges, a filter, no core file, one thread."""
        host.start_ready()
        for number in (0, 1):
            status = status_of(host.worker(number))
            assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
            assert status["Uid"].split() == [str(WORKER_UID)] * 4
            assert status["Gid"].split() == [str(WORKER_UID)] * 4
            assert (status["Groups"], status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("", "1", "2", "1")
            limits_of = Path(f"/proc/{host.worker(number)}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits_of)

    def test_the_supervisor_keeps_six_capabilities_the_spawner_three_and_the_sentry_one(self, host: Solo) -> None:
        """What the tables in privileges.py say is what the kernel says."""
        agent = host.start_ready()
        assert int(status_of(agent.pid)["CapBnd"], 16) == sum(1 << bit for bit in (5, 6, 7, 8, 12, 13))
        assert int(status_of(host.pids("nodeagent-spawn")[0])["CapBnd"], 16) == sum(1 << bit for bit in (6, 7, 8))
        wait_until(lambda: [status_of(pid)["CapBnd"] for pid in host.pids(SENTRY)] == [f"{1 << 12:016x}"], "the sentry has one")


class TestDeaths:
    """Whoever dies is replaced, and nobody else notices."""

    def test_a_killed_workers_connections_wait_for_its_successor(self, host: Solo) -> None:
        """Both workers are killed under load: no connect is refused, and the sockets are the very same."""
        host.start_ready()
        before = listening_inodes(host)
        with Load(host) as load:
            for number in (0, 1):
                load.go_on()
                pid = host.worker(number)
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid, number=number: host.worker(number) not in (0, pid), "a successor")
            wait_until(lambda: len(host.events("worker_ready")) == 4, "both serve")
            load.go_on()
        assert load.refused == 0
        assert listening_inodes(host) == before
        assert [event["code"] for event in host.events("worker_exited")] == [-9, -9]

    def test_a_successor_serves_within_the_promise(self, host: Solo) -> None:
        """0.5 s are promised; the deadline is ten times that, the log says how long it took."""
        host.start_ready()
        os.kill(host.worker(0), signal.SIGKILL)
        wait_until(lambda: len(host.events("worker_ready")) == 3, "a successor serves", deadline_s=5)

    def test_workers_live_on_without_their_spawner_and_without_control(self, host: Solo) -> None:
        """Both are started again; a worker that dies afterwards gets a successor."""
        host.start_ready()
        workers = [host.worker(0), host.worker(1)]
        os.kill(host.pids("nodeagent-spawn")[0], signal.SIGKILL)
        for event in host.events("control_started")[:1]:
            os.kill(event["pid"], signal.SIGKILL)
        wait_until(lambda: host.events("spawner_exited") and host.pids("nodeagent-spawn"), "a new spawner")
        wait_until(lambda: len(host.events("control_started")) > 1, "a new control")
        assert [host.worker(0), host.worker(1)] == workers
        os.kill(workers[1], signal.SIGKILL)
        wait_until(lambda: host.worker(1) not in (0, workers[1]), "a successor")
        assert host.worker(0) == workers[0]

    def test_a_control_that_comes_back_decides_by_what_was_checked_at_the_start(self, host: Solo) -> None:
        """An edit, or a typo, takes effect with the next start of the agent and not with a crash."""
        host.start_ready()
        wait_until(lambda: len(host.events("worker_adopted")) == 3, "control has its workers and the spare")
        host.config.write_text("typo = ")
        os.kill(host.events("control_started")[0]["pid"], signal.SIGKILL)
        wait_until(lambda: len(host.events("worker_adopted")) == 6, "another control has them")
        assert [event["code"] for event in host.events("control_exited")] == [-9]

    def test_after_a_reload_there_is_one_sentry_and_it_is_the_next_programs(self, host: Solo) -> None:
        """The one of before goes on until it is relieved, and is reaped."""
        agent = host.start_ready()
        wait_until(lambda: len(host.pids(SENTRY)) == 1, "a sentry")
        (old,) = host.pids(SENTRY)
        os.kill(agent.pid, signal.SIGHUP)
        wait_until(lambda: not Path(f"/proc/{old}").exists() and len(host.pids(SENTRY)) == 1, "another", deadline_s=60)

    def test_a_hung_control_is_replaced(self, host: Solo) -> None:
        """The next one has its workers. As long as it hangs nobody hears of changes."""
        host.start_ready()
        wait_until(lambda: len(host.events("worker_adopted")) == 3, "control has its workers and the spare")
        os.kill(host.events("control_started")[0]["pid"], signal.SIGSTOP)
        wait_until(lambda: len(host.events("worker_adopted")) == 6, "another control has them", deadline_s=10 * limits.CONTROL_DEAF_TURNS)
        assert ["it hangs: it has read nothing for long"] == [event["why"] for event in host.events("control_cut")]

    def test_a_hung_worker_is_replaced(self, host: Solo) -> None:
        """A worker that does not answer for HUNG_S is killed."""
        host.start_ready()
        pid = host.worker(0)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: host.events("worker_hung"), "it is noticed", deadline_s=limits.HUNG_S * 10)
        wait_until(lambda: host.worker(0) not in (0, pid), "a successor")


    def test_a_crashing_workers_share_goes_to_the_others_until_it_is_back(self, host: Solo) -> None:
        """While its slot waits for long, and no spare is left, it leaves the listening group, so that no connection waits with it."""
        host.start_ready()
        before = listening_inodes(host)
        while len(listening_inodes(host)) == len(before):
            served = len(host.events("worker_ready"))
            pid = host.events("worker_ready")[-1]["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: any(event["pid"] == pid for event in host.events("worker_exited")), "it ended")
            next_or_none = lambda served=served: len(host.events("worker_ready")) > served or len(listening_inodes(host)) < len(before)  # noqa: E731
            wait_until(next_or_none, "the next one serves there, or nobody")
        assert len(listening_inodes(host)) == len(before) // 2
        with Load(host) as load:
            load.go_on()
            served = len(host.events("worker_ready"))
            wait_until(lambda: len(listening_inodes(host)) == len(before), "it is back")
            wait_until(lambda: len(host.events("worker_ready")) >= served, "it serves")
            load.go_on()
        assert load.refused == 0

    def test_without_its_supervisor_everybody_ends_and_another_can_start(self, host: Solo) -> None:
        """Nothing is left that would keep the ports; the sentry, which has none, ends when nobody can wait any more."""
        agent = host.start_ready()
        agent.kill()
        agent.wait()
        wait_until(lambda: host.agent_processes() == [], "all have ended", deadline_s=10 * limits.ALIVE_S)
        host.log.unlink()
        host.start_ready()


class TestUnits:
    """The kernel's map follows the cgroup tree."""

    def test_a_unit_is_stamped_from_its_first_moments_and_keeps_its_mark(self, host: Solo) -> None:
        """A new unit, a nested slice, and a unit made again: its mark is its name's."""
        shop = host.cgroup / "system.slice" / "shop.service"
        shop.mkdir()
        host.start_ready()
        mark = units_in_kernel(host)["shop.service"]
        assert mark & 0xFFFF0000 == limits.UNIT_MARK_BASE
        nested = host.cgroup / "system.slice" / "system-db.slice" / "db@1.service"
        nested.mkdir(parents=True)
        wait_until(lambda: "db@1.service" in units_in_kernel(host), "the new unit is stamped")
        shop.rmdir()
        wait_until(lambda: "shop.service" not in units_in_kernel(host), "the unit is gone")
        shop.mkdir()
        wait_until(lambda: units_in_kernel(host).get("shop.service") == mark, "the same mark")

    def test_users_units_are_not_stamped(self, host: Solo) -> None:
        """A user may call a unit what she likes."""
        (host.cgroup / "user.slice" / "user-1000.slice" / "user@1000.service" / "app.slice" / "web.service").mkdir(parents=True)
        (host.cgroup / "machine.slice" / "web.service").mkdir(parents=True)
        host.start_ready()
        assert set(units_in_kernel(host)) == {"nodeagent.service"}


class TestOwners:
    """Whose is a connection that carries no stamp."""

    def test_every_shape_of_connection_names_its_own_unit_or_none(self, host: Solo) -> None:
        """IPv4, IPv6, mapped, nested, half closed, orphaned, rewritten port; time-wait, listeners and users' units name none."""
        for path in ("system.slice/shop.service/worker/3", "system.slice/web.service"):
            (host.cgroup / path).mkdir(parents=True)
        (host.cgroup / "user.slice/user-1000.slice/user@1000.service/app.slice/web.service").mkdir(parents=True)
        host.run(["ip", "neigh", "add", "10.90.1.2", "lladdr", "02:00:00:00:00:02", "dev", "v0"])
        found = host.run_python("tests.e2e.support.owner_probe", str(host.cgroup), cgroup=host.unit)
        shop, web = [2001, "shop.service"], [2002, "web.service"]
        assert found["v4"] == found["v6"] == found["nested"] == found["half_closed"] == shop
        assert found["mapped"] == web
        assert found["user_slice"] == [1000, ""]
        assert found["orphan"] == [-1, "shop.service"]
        assert found["rewritten"]["ports"][0] != found["rewritten"]["ports"][1]
        assert (found["rewritten"]["first"], found["rewritten"]["second"]) == (shop, web)
        assert found["time_wait"]["answer"] == [-1, ""]
        assert found["alien"] == [-1, ""]
        assert found["listener"] is None


class TestLostChannels:
    """A worker without control would decide by an old snapshot for ever."""

    def test_a_worker_whose_channel_to_control_breaks_gets_another(self, host: Solo) -> None:
        """Nobody is replaced for it: the same worker is adopted anew."""
        host.start_ready()
        pid, other = host.worker(0), host.worker(1)
        wait_until(lambda: len(host.events("worker_adopted")) == 3, "both have a channel, and the spare")
        break_control_channel(pid)
        wait_until(lambda: len(host.events("worker_adopted")) == 4, "the worker has a new one", deadline_s=30)
        assert host.events("worker_lost")[0]["pid"] == host.events("worker_adopted")[-1]["pid"] == pid
        assert [host.worker(0), host.worker(1)] == [pid, other]
        assert not host.events("control_exited")


class TestBoot:
    """Before anybody has asked the catalog, which is out of reach here."""

    def test_what_was_captured_last_is_captured_from_the_start(self, host: Solo) -> None:
        """Root as systemd starts it, which may read nothing by virtue of being root."""
        save_capture(host, '{"type":"capture","addresses":["10.90.1.2","fd90::2","127.0.0.1"],"ports":[8080,22]}')
        host.start_ready(through=("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"))
        for element in ("mesh4 { 10.90.1.2 }", "mesh6 { fd90::2 }", "local_ports { 8080 }"):
            host.run(["nft", "get", "element", "inet", "nodeagent", *element.split(" ", 1)])
        assert "127.0.0.1" not in host.run(["nft", "list", "set", "inet", "nodeagent", "mesh4"])
        assert "22" not in host.run(["nft", "list", "set", "inet", "nodeagent", "local_ports"])

    def test_garbage_does_not_keep_the_agent_from_starting(self, host: Solo) -> None:
        """The log says that nothing is captured yet."""
        save_capture(host, "garbage")
        host.start_ready()
        assert host.events("saved_capture_ignored")

    def test_more_than_there_is_room_for_is_a_failure_that_keeps_what_was_captured(self, host: Solo) -> None:
        """Asked of the real kernel, with a limit of three."""
        found = host.run_python("tests.e2e.support.guard_probe", host.name, cgroup=host.unit)
        assert found["whole"] == ["active", "", ["10.0.0.8", "10.0.0.9"]]
        assert found["cut"] == [
            "failed", "not everything is captured: 2 addresses beyond the limit of 3", ["10.0.0.1", "10.0.0.8", "10.0.0.9"]
        ]  # fmt: skip
        assert found["checked"] == found["repaired"] == found["cut"]
        assert found["standing"] is True
        assert found["whole_again"] == ["repaired", ["10.0.0.1"]]


def save_capture(host: Solo, text: str) -> None:
    """As control has saved it: its own directory, and a file that its group may read."""
    path = host.state_dir / "capture.json"
    path.write_text(text)
    for it, mode in ((path, 0o640), (host.state_dir, 0o750)):
        os.chown(it, CONTROL_UID, CONTROL_UID)
        it.chmod(mode)


def break_control_channel(pid: int) -> None:
    """Ends a process's only stream socket between processes, as when control cuts it."""
    pidfd = os.pidfd_open(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if str(entry.readlink()).startswith("socket:"):
            with socket.socket(fileno=_libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)) as sock:
                if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
                    sock.shutdown(socket.SHUT_RDWR)
    os.close(pidfd)


class TestBeginningAndEnd:
    """Refusals at the start, and what SIGTERM leaves."""

    def test_sigterm_leaves_no_process_and_new_connections_are_refused(self, host: Solo) -> None:
        """Exit 0; the beat ends at once, the rules stay."""
        agent = host.start_ready()
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=60) == 0
        assert host.agent_processes() == []
        assert "elements" not in host.run(["nft", "list", "set", "inet", "nodeagent", "alive"])
        assert host.events("supervisor_stopped")

    def test_systemd_is_told_ready_alive_and_stopping(self, host: Solo, tmp_path: Path) -> None:
        """READY comes once, when all serve; WATCHDOG follows each beat; STOPPING at the drain."""
        with notify_socket(tmp_path) as sock:
            environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
            agent = host.start_ready(environ)
            first = sock.recv(4096).decode()
            while first.endswith("WATCHDOG=1") or first.startswith("FDSTORE"):
                first = sock.recv(4096).decode()
            assert first.startswith("READY=1\n")
            assert sock.recv(4096) == b"WATCHDOG=1"
            agent.send_signal(signal.SIGTERM)
            told = b""
            while b"STOPPING=1" not in told:
                told = sock.recv(4096)
            assert agent.wait(timeout=60) == 0

    def test_a_host_without_ipv6_goes_on_with_ipv4(self, host: Solo) -> None:
        """And the log says what that means."""
        host.run(["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])
        host.start_ready()
        assert host.events("ipv6_missing")
        assert len(listening_inodes(host)) == 2 * 3

    def test_a_second_agent_is_refused_and_names_the_first(self, host: Solo) -> None:
        """One sentence, exit 1, and the first goes on."""
        first = host.start_ready()
        second = host.start()
        assert second.wait(timeout=60) == 1
        assert f"another nodeagent is running on this host (it holds /run/nodeagent, process {first.pid})" in host.log.read_text()
        assert first.poll() is None

    def test_a_taken_port_names_the_process_that_has_it(self, host: Solo) -> None:
        """Also when that process would share it."""
        code = (
            "import socket,time; s=socket.socket(); s.setsockopt(1,15,1); s.bind(('127.0.0.1',15001)); s.listen();"
            " print('ready',flush=True); time.sleep(1000)"
        )
        unit = host.cgroup / "system.slice" / "other.service"
        unit.mkdir()
        other = subprocess.Popen(host.inside(["python3", "-c", code], unit), stdout=subprocess.PIPE)
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        agent = host.start()
        assert agent.wait(timeout=60) == 1
        assert f"port 15001 (outbound, IPv4) is taken by process {other.pid} (python3); end it first" in host.log.read_text()
        other.kill()
        other.wait()
        other.stdout.close()

    def test_interception_is_put_back_when_somebody_removes_it(self, host: Solo) -> None:
        """Noticed at the next beat; the units are in the map again."""
        host.start_ready()
        host.run(["nft", "delete", "table", "inet", "nodeagent"])
        wait_until(lambda: host.events("interception_repaired"), "it is repaired")
        assert "nodeagent.service" in units_in_kernel(host)
        wait_until(lambda: "tcp" in host.run(["nft", "list", "set", "inet", "nodeagent", "alive"]), "the beat after that")


class Load:
    """Connects to the outbound listener without pause. Owned by one test."""

    def __init__(self, host: Solo) -> None:
        self.connected = self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(host,)) for _ in range(4)]

    def go_on(self) -> None:
        """Returns after some more connections."""
        before = self.connected
        wait_until(lambda: self.connected > before + 50, "load")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, host: Solo) -> None:
        host.enter_network()
        while not self._stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", limits.OUTBOUND_PORT), timeout=30):
                    self.connected += 1
            except ConnectionRefusedError:
                self.refused += 1
            except ConnectionResetError:  # accepted, then reset: the worker has no snapshot
                self.connected += 1
            time.sleep(0.001)
