"""The real control process against the real embedded catalog; supervisor and workers are played."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.catalog_process import Process, token_command
from tests.support.control_process import UID, ControlProcess
from tests.support.eventually import eventually
from tests.support.far_ends import ring_of, snapshot_of, worker_stats
from tests.support.rows import row

WITHIN_S = 10  # what is promised is one second


class Site:
    """One catalog and what a host needs of it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.data = directory / "catalog"
        self.host = directory / "host1"
        self.host.mkdir()
        directory.chmod(0o755)  # control's uid must be able to look into it
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.options = ("--listen", f"127.0.0.1:{self.port}", *options)
        self.catalog = self.start()
        self.token = token_command(self.data, "create", "--node", "host1", "--any-service")
        self.ca = self.host / "catalog-ca.pem"
        self.ca.write_text((self.data / "tls-ca.pem").read_text())
        self.operator = directory / "operator.token"
        self.operator.write_text((self.data / "management.token").read_text())
        self.client = self.catalog.client()

    def start(self) -> Process:
        self.catalog = Process(self.data, *self.options)
        return self.catalog

    def control(self, extra: str = '[identity]\nunits = "any"\n') -> ControlProcess:
        return ControlProcess(self.host, f"https://127.0.0.1:{self.port}", self.ca, self.token, extra)

    def register(self, name: str, port: int, host: str = "host2", ip: str = "10.77.0.2") -> None:
        body = {
            "Node": host,
            "Address": ip,
            "NodeMeta": {"nodeagent": "15008;v1"},
            "Service": {"Service": name, "Port": port},
        }
        self.client.ok("PUT", "/v1/catalog/register", body)

    def run(self, *argv: str) -> subprocess.CompletedProcess:
        """A `nodeagent` command of the operator on host1."""
        return subprocess.run(
            [sys.executable, "-m", "nodeagent", *argv], capture_output=True, text=True, timeout=60, check=False
        )

    def operate(self, *argv: str) -> subprocess.CompletedProcess:
        access = ["--config", str(self.host / "nodeagent.toml"), "--token-file", str(self.operator)]
        return self.run(*argv[:2], *access, *argv[2:])


@pytest.fixture
def site(request):
    with tempfile.TemporaryDirectory(prefix="nodeagent-control-") as directory:  # pytest's own is closed to other uids
        made = Site(Path(directory), *getattr(request, "param", ()))
        with made.catalog:
            yield made


def intentions(end, service: str) -> list[str]:
    snapshot = snapshot_of(end)
    return (
        [str(row) for row in snapshot.services[service].intentions] if snapshot and service in snapshot.services else []
    )


def test_an_intention_written_by_the_command_is_at_the_worker_within_the_deadline(site: Site) -> None:
    site.register("web", 80)
    with site.control() as control:
        end = control.join()
        eventually(lambda: snapshot_of(end) and "web" in snapshot_of(end).services, 30, "the first snapshot")
        for verb, expected in (("allow", ["shop -> web (allow)"]), ("deny", ["shop -> web (deny)"]), ("delete", [])):
            done = site.operate("intention", verb, "shop", "web")
            assert done.returncode == 0, done.stderr
            assert "in force within a second" in done.stdout
            eventually(lambda now=expected: intentions(end, "web") == now, WITHIN_S, f"{verb} in force")


def test_intention_check_names_the_decider_and_says_it_by_exit_status(site: Site) -> None:
    site.register("web", 80)
    with site.control():
        refused = site.operate("intention", "check", "shop", "web")
        assert (refused.returncode, "default deny" in refused.stdout) == (1, True)
        assert refused.stderr == "", "who only calls is in no catalog"
        assert "knows no service wep; did you mean web?" in site.operate("intention", "check", "shop", "wep").stderr
        assert site.operate("intention", "allow", "*", "web").returncode == 0
        allowed = site.operate("intention", "check", "shop", "web")
        assert (allowed.returncode, "* -> web (allow)" in allowed.stdout) == (0, True)
        listed = json.loads(site.operate("intention", "list", "-o", "json").stdout)
        assert listed["intentions"] == [{"source": "*", "destination": "web", "action": "allow", "precedence": 8}]
        assert site.operate("intention", "delete", "shop", "web").returncode == 4
        assert site.operate("intention", "deny", "*", "*").returncode == 0
        left = site.operate("intention", "delete", "*", "*").stdout
        assert ("  * -> web (allow)" in left, "any other: deny" in left) == (True, True), left
        assert site.operate("intention", "allow", "no/name", "web").returncode == 2


def test_two_writers_of_one_entry_lose_nothing(site: Site) -> None:
    site.register("web", 80)
    with site.control():
        access = ["--config", str(site.host / "nodeagent.toml"), "--token-file", str(site.operator)]
        command = [sys.executable, "-m", "nodeagent", "intention", "allow", *access]
        writers = [
            subprocess.Popen([*command, f"s{n}", "web"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for n in range(4)
        ]
        failed = [text for w in writers if (text := w.communicate(timeout=60)[1]) and w.returncode]
        assert failed == []
        listed = json.loads(site.operate("intention", "list", "-o", "json").stdout)
        assert {each["source"] for each in listed["intentions"]} == {"s0", "s1", "s2", "s3"}


def test_services_are_registered_listed_and_removed_by_command_and_get_a_certificate(site: Site) -> None:
    with site.control('[identity]\nunits = "registered"\n') as control:
        end = control.join()
        done = site.operate("service", "register", "shop", "--port", "9000", "--protocol", "http")
        assert done.returncode == 0, done.stderr
        eventually(lambda: (s := snapshot_of(end)) and s.local_by_port.get(9000), WITHIN_S, "the registration")
        assert snapshot_of(end).services["shop"].protocol == "http"
        eventually(lambda: (r := ring_of(end)) and [svid.service for svid in r.svids] == ["shop"], WITHIN_S, "its SVID")
        assert "every address of the host  9000" in site.operate("service", "list").stdout
        assert site.operate("service", "deregister", "shop").returncode == 0
        eventually(lambda: not snapshot_of(end).local_by_port, WITHIN_S, "the removal")
        eventually(lambda: not ring_of(end).svids, WITHIN_S, "the key's withdrawal")


def test_the_host_is_registered_with_its_marker_and_again_when_somebody_removes_it(site: Site) -> None:
    def row_of_host1() -> dict | None:
        rows = site.client.ok("GET", "/v1/catalog/nodes")
        return next((each for each in rows if each["Node"] == "host1"), None)

    with site.control():
        eventually(row_of_host1, 30, "the registration")
        site.client.ok("PUT", "/v1/catalog/deregister", {"Node": "host1"})
        found = eventually(row_of_host1, WITHIN_S, "the registration again")
        assert found["Meta"] == {"nodeagent": "15008;v1"}
        assert set(found["TaggedAddresses"].values()) >= {"10.77.0.1", "fd77::1"}


def test_a_catalog_that_was_killed_and_comes_back_is_followed_again(site: Site) -> None:
    site.register("web", 80)
    with site.control() as control:
        end = control.join()
        eventually(lambda: snapshot_of(end) and "web" in snapshot_of(end).services, 30, "the first snapshot")
        site.catalog.end(signal.SIGKILL)
        before = len(end.messages)
        with site.start():
            assert site.operate("intention", "allow", "shop", "web").returncode == 0
            eventually(lambda: intentions(end, "web") == ["shop -> web (allow)"], 60, "the change after the restart")
            frames = [type(message).__name__ for message in end.messages[before:]]
            assert "SnapshotFrame" not in frames  # nobody started anew


def test_it_starts_without_the_catalog_from_what_was_saved_and_says_so(site: Site) -> None:
    site.register("web", 80)
    assert (
        site.client.put(
            "/v1/config",
            {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}]},
        ).status
        == 200
    )
    with site.control() as control:
        end = control.join()
        eventually(lambda: intentions(end, "web"), 30, "the intention")
        eventually((site.host / "snapshot").exists, 30, "the file")
        eventually(lambda: b"shop" in (site.host / "snapshot").read_bytes(), 30, "the intention is saved")
        assert control.end() == 0
    site.catalog.end(signal.SIGKILL)
    with site.control() as control:
        end = control.join()
        eventually(lambda: intentions(end, "web") == ["shop -> web (allow)"], WITHIN_S, "the saved snapshot")
        shown = eventually(
            lambda: (s := site.run("status", "--socket", str(control.socket))).returncode == 1 and s.stdout,
            30,
            "status",
        )
        assert "from the file saved" in shown
        assert "OUT OF REACH" in shown
        with site.start():
            site.client.ok("DELETE", "/v1/config/service-intentions/web")
            eventually(lambda: intentions(end, "web") == [], 60, "the catalog is heard again")


def test_a_spoiled_saved_snapshot_does_not_stop_it(site: Site) -> None:
    site.register("web", 80)
    (site.host / "snapshot").write_bytes(os.urandom(4096))
    with site.control() as control:
        end = control.join()
        eventually(lambda: snapshot_of(end) and "web" in snapshot_of(end).services, 30, "the snapshot")
        assert (site.host / "snapshot.spoiled").exists()


@pytest.mark.parametrize("site", [("--leaf-ttl", "4")], indirect=True)
def test_certificates_of_seconds_are_renewed_before_they_end(site: Site) -> None:
    site.register("shop", 9000, "host1", "10.77.0.1")
    with site.control() as control:
        end = control.join()

        def rings() -> list:
            return [m.ring for m in list(end.messages) if type(m).__name__ == "KeysFrame" and m.ring.svids]

        eventually(lambda: len({r.svids[0].serial for r in rings()}) >= 4, 60, "three renewals")
        ends = [r.svids[0].not_after for r in rings()]
        assert ends == sorted(ends)


def test_secrets_are_in_no_output_argument_or_environment(site: Site) -> None:
    site.register("shop", 9000, "host1", "10.77.0.1")
    with site.control('[log]\nlevel = "debug"\n') as control:
        end = control.join()
        ring = eventually(lambda: (r := ring_of(end)) and r.svids and r, 30, "the certificate")
        secret = ring.svids[0].key_pem.splitlines()[1]
        answers = "".join(
            site.run(command, "--socket", str(control.socket), "-o", "json").stdout
            for command in ("status", "certs", "services", "connections")
        )
        assert "spiffe://" in answers
        places = [answers, control.said(), (site.host / "snapshot").read_bytes().decode("latin-1")]
        proc = Path(f"/proc/{control.process.pid}")
        places += [(proc / name).read_text(errors="replace") for name in ("cmdline", "environ")]
        for place in places:
            assert site.token not in place
            assert secret not in place
        assert (proc / "status").read_text().count(f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}") == 1


def test_the_commands_show_the_agent_as_tables_and_as_json(site: Site) -> None:
    site.register("web", 80)
    site.register("shop", 9000, "host1", "10.77.0.1")
    with site.control() as control:
        end = control.join(rows=[row(7, closed_at=0.0)])
        eventually(lambda: (r := ring_of(end)) and r.svids, 30, "the certificate")
        end.send(worker_stats(connections=1))
        at = ("--socket", str(control.socket))
        healthy = eventually(
            lambda: (s := site.run("status", *at)).returncode == 0 and s.stdout, 30, "a healthy status"
        )
        assert "healthy" in healthy.splitlines()[0]
        assert json.loads(site.run("status", *at, "-o", "json").stdout)["workers"][0]["pid"] == 4001
        assert "10.77.0.2:80" in site.run("services", *at).stdout
        assert "spiffe://" in site.run("certs", *at, "--no-headers").stdout
        shown = site.run("connections", *at).stdout.splitlines()
        assert (shown[0].split()[0], "open" in shown[1]) == ("ID", True)
        assert "\x1b" not in "".join(shown)
        control.end()
    gone = site.run("status", *at)
    assert gone.returncode == 3
    assert "systemctl start nodeagent" in gone.stderr


def test_it_ends_with_the_supervisor(site: Site) -> None:
    with site.control() as control:
        control.supervisor.sock.shutdown(socket.SHUT_RDWR)
        assert control.process.wait(20) == 0
