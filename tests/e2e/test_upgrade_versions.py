"""`nodeagent upgrade`: versions side by side, for real; and what one version leaves to another that does not know it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from tests.e2e.support.installed import install, installation
from tests.e2e.support.solo import Solo
from tests.e2e.support.waiting import wait_until
from tests.e2e.test_processes import Load, listening_inodes

pytestmark = pytest.mark.timeout(600)
_PROGRAM = """\
#!{python}
import nodeagent.process.handover
nodeagent.process.handover.VERSION = int(open({version!r}).read())
from nodeagent.cli.main import main
main()
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Solo]:
    """A host without an agent yet."""
    with Solo(tmp_path) as solo:
        yield solo


def upgrade(host: Solo, root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`nodeagent upgrade`, as an operator on the host."""
    command = [str(root / "bin" / "nodeagent"), "upgrade", "--root", str(root), *arguments]
    return subprocess.run(host.inside(command), capture_output=True, text=True, timeout=300, check=False)


def test_an_agent_goes_to_the_next_version_and_back_and_past_a_broken_one(host: Solo) -> None:
    """The same process throughout, and no connect is refused; what cannot serve is taken back, and said."""
    with installation("1.0", "2.0") as root:
        host.program = str(root / "bin" / "nodeagent")
        agent = host.start_ready()
        wait_until(lambda: upgrade(host, root).returncode == 0, "it answers", every_s=0.5)
        assert "would switch" in upgrade(host, root).stdout
        assert (root / "current").readlink().name == "1.0"
        with Load(host) as load:
            load.go_on()
            done = upgrade(host, root, "--yes")
            assert (done.returncode, done.stdout.splitlines()[-1]) == (
                0, "2.0 serves; connections of before live on, see: nodeagent status"
            ), done.stderr + host.log.read_text()  # fmt: skip
            load.go_on()
            status = json.loads(_status(host))
            assert (status["version"], status["supervisor"]["version"], status["supervisor"]["pid"]) == ("2.0", "2.0", agent.pid)
            listed = json.loads(upgrade(host, root, "--list", "-o", "json").stdout)["versions"]
            assert [(each["version"], each["current"], each["previous"]) for each in listed] == [
                ("1.0", False, True), ("2.0", True, False)
            ]  # fmt: skip
            install(root, "3.0", defect="raise RuntimeError('a broken version')")
            done = upgrade(host, root, "--yes")
            assert done.returncode == 1
            assert "3.0 was not taken" in done.stderr
            assert "a broken version" in done.stderr
            assert (root / "current").readlink().name == "2.0"
            load.go_on()
            assert upgrade(host, root, "--back", "--yes").returncode == 0
            assert json.loads(_status(host))["supervisor"]["version"] == "1.0"
            load.go_on()
        assert load.refused == 0
        assert agent.poll() is None
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=60) == 0


def test_a_version_that_starts_and_never_serves_is_put_back(host: Solo) -> None:
    """It checks itself well and its workers are never ready: those of before serve meanwhile, and no connect is refused."""
    with installation("1.0") as root:
        host.program = str(root / "bin" / "nodeagent")
        agent = host.start_ready()
        wait_until(lambda: upgrade(host, root).returncode == 0, "it answers", every_s=0.5)
        install(root, "2.0", defect="run_worker = lambda _: __import__('threading').Event().wait()", program="worker")
        with Load(host) as load:
            load.go_on()
            done = upgrade(host, root, "--yes")
            assert done.returncode == 1, done.stdout + done.stderr
            assert f"2.0 was not taken: not within {limits.UPGRADE_S:g} s: 2 workers of the generation before still accept" in done.stderr
            assert "1.0 serves" in done.stderr.splitlines()[-1]
            load.go_on()
            assert json.loads(_status(host))["supervisor"]["version"] == "1.0"
            listed = json.loads(upgrade(host, root, "--list", "-o", "json").stdout)["versions"]
            assert [(each["version"], each["current"], each["running"]) for each in listed] == [("1.0", True, True), ("2.0", False, False)]
        assert load.refused == 0
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=60) == 0


def _status(host: Solo) -> str:
    """`nodeagent status`, of an agent that may be unhealthy: it has no catalog."""
    command = host.inside([host.program, "status", "-o", "json"])
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_a_value_of_an_unknown_version_is_as_after_a_crash(host: Solo, tmp_path: Path) -> None:
    """The listening sockets are the very same and no connect is refused; the workers of before finish and end."""
    version, program = tmp_path / "version", tmp_path / "nodeagent"
    version.write_text("1")
    program.write_text(_PROGRAM.format(python=sys.executable, version=str(version)))
    program.chmod(0o755)
    host.program = str(program)
    agent = host.start_ready()
    workers, sockets = [host.worker(0), host.worker(1)], listening_inodes(host)
    with Load(host) as load:
        load.go_on()
        version.write_text("2")
        agent.send_signal(signal.SIGHUP)
        wait_until(lambda: len(host.events("supervisor_ready")) == 2, "the successor serves", deadline_s=60)
        load.go_on()
        wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers), "the workers of before ended")
        load.go_on()
    assert load.refused == 0
    assert host.events("handover_unknown")
    assert listening_inodes(host) == sockets
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(timeout=60) == 0
    assert host.agent_processes() == []
