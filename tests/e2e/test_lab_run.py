"""`lab run` and the agent's start, where what was asked for does not come, comes in part, or takes its time."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from nodeagent.lab import catalog, cgroup
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support.lab import HTTP, NODEAGENT, nodeagent_lab


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """A host and a catalog, no agent."""
    return make_lab(agents=False, hosts=1)


@pytest.mark.parametrize(("script", "status"), [("echo no file >&2; exit 3", 3), ("exec no-such-program", 127)])
def test_a_command_without_a_port_that_fails_at_once_is_told(bare: Lab, script: str, status: int) -> None:
    """It does not run: exit status 1, the end of its log, nothing stays behind."""
    done = nodeagent_lab("run", bare, "host1", "brief", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"brief on host1 ended with status {status}; its log ends:\n  " in done.stderr
    assert "brief" not in nodeagent_lab("status", bare).stdout


def test_a_job_that_is_done_and_a_program_that_forks_are_told_apart(bare: Lab) -> None:
    """What ended well is told as ended, what left its server behind as running."""
    done = nodeagent_lab("run", bare, "host1", "job", "--", "echo", "well")
    assert (done.returncode, "job on host1 ended at once, with status 0; its log: " in done.stdout) == (0, True)
    assert "job (ended)" in nodeagent_lab("status", bare).stdout
    done = nodeagent_lab("run", bare, "host1", "forking", "--", "sh", "-c", "sleep 600 & exit 0")
    assert (done.returncode, done.stdout.startswith("forking runs on host1; its log: ")) == (0, True)
    bare.stop("host1", "forking")


@pytest.mark.parametrize("port", [22, 8501, 15008])
def test_a_port_that_is_never_captured_is_refused_before_anything_starts(lab: Lab, port: int) -> None:
    """As `service register` refuses it; what runs by that name goes on."""
    lab.run("host2", "kept", ["sleep", "600"])
    pids = lab.pids("host2", "kept")
    done = nodeagent_lab("run", lab, "host2", "kept", "--replace", "--port", str(port), "--", *HTTP, str(port))
    assert done.returncode == 1
    assert f"Error: a service there would not be protected: port {port} is " in done.stderr
    assert lab.pids("host2", "kept") == pids
    lab.stop("host2", "kept")


def test_a_service_is_registered_where_it_listens_and_nowhere_else(bare: Lab) -> None:
    """One family of two; a wildcard counts for its own, `::` for both unless it is for IPv6 alone."""
    host = bare.host("host1")
    for bind, ips in (("0.0.0.0", [host.ipv4]), (host.ipv6, [host.ipv6]), ("::", [host.ipv4, host.ipv6])):
        command = [sys.executable, "-m", "http.server", "--bind", bind, "8091"]
        done = nodeagent_lab("run", bare, "host1", "some", "--replace", "--port", "8091", "--", *command)
        assert done.returncode == 0, done.stderr
        assert ("it does not listen at" in done.stdout) is (len(ips) == 1)
        (entry,) = bare.catalog("GET", "/v1/health/service/some")
        tagged = entry["Service"]["TaggedAddresses"].values()
        assert [each["Address"] for each in tagged] == ips
        assert entry["Service"]["Address"] == ips[0]
        told = json.loads(nodeagent_lab("status", bare, "-o", "json").stdout)["labs"][0]["hosts"][0]["services"]
        (some,) = (each for each in told if each["name"] == "some")
        assert some["addresses"] == [f"[{ip}]:8091" if ":" in ip else f"{ip}:8091" for ip in ips]
    bare.stop("host1", "some")


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1"])
def test_a_service_on_loopback_alone_is_stopped_with_the_cure(bare: Lab, bind: str) -> None:
    """No other host would ever reach it. What is waited for is said meanwhile."""
    command = [sys.executable, "-m", "http.server", "--bind", bind, "8092"]
    done = nodeagent_lab("run", bare, "host1", "inward", "--port", "8092", "--", *command)
    assert done.returncode == 1
    assert f"inward on host1 listens at {bind} alone on port 8092" in done.stderr
    assert "--bind ::" in done.stderr
    assert f"still waiting: inward on host1 listens at {bind} alone on port 8092\n" in done.stderr
    assert bare.pids("host1", "inward") == ()
    assert bare.catalog("GET", "/v1/health/service/inward") == []


def test_a_start_that_takes_long_says_what_it_waits_for(lab: Lab) -> None:
    """The agent's own complaint, after two seconds of silence: here it lacks the catalog and what it had saved."""
    lab.stop_agent("host2")
    for path in lab.host("host2").own("state").iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    pids = lab.pids("hub", catalog.UNIT)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        process = subprocess.Popen(
            [NODEAGENT, "lab", "agent", "--name", lab.name, "host2", "start"], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        line = process.stderr.readline()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert line.startswith("  · still waiting: the agent on host2 is not healthy yet: "), line
    assert process.wait(60) == 0, process.stderr.read()
    process.stderr.close()


def test_a_catalog_that_is_away_is_exit_status_3(make_lab: MakeLab) -> None:
    """And nothing runs: without a registration it would be anybody's."""
    lonely = make_lab(agents=False, hosts=1)
    cgroup.kill(lonely.host("hub").unit_cgroup(catalog.UNIT))
    done = nodeagent_lab("run", lonely, "host1", "web", "--port", "8080", "--", *HTTP, "8080")
    assert (done.returncode, "nobody listens there" in done.stderr) == (3, True), done.stderr
    assert lonely.pids("host1", "web") == ()
