"""script/demo: the first thing that a newcomer runs."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from nodeagent.lab.teardown import take_down
from tests.e2e.support.consul import binary
from tests.e2e.support.remains import remains_of

DEMO = Path(__file__).parents[2] / "script" / "demo"
SECONDS = 120.0  # it promises a minute on a quiet machine


@pytest.fixture
def name(new_name: Callable[[], str]) -> Iterator[str]:
    """A lab's name; whatever the demo leaves of it is removed."""
    made = new_name()
    yield made
    take_down(made)


def demo(name: str, *options: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """The demo, run as a newcomer runs it."""
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    return subprocess.run(
        [DEMO, "--name", name, *options], text=True, capture_output=True, timeout=SECONDS, env=env, check=False
    )


def test_help_is_true_and_changes_nothing(name: str) -> None:
    """What stays after a demo is named: packages, and the environment below /opt."""
    done = demo(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "except the Debian packages and the Python environment in /opt/nodeagent" in done.stdout
    assert "script/bootstrap installs" in done.stdout
    assert "set -eu" not in done.stdout
    assert demo(name, "--keeep").returncode == 2
    assert remains_of(name) == []


def test_the_story_holds_with_a_real_consul(name: str) -> None:
    """The intention is made by Consul's own command, and the certificates are of its CA."""
    binary()
    done = demo(name, "--catalog", "consul")
    assert done.returncode == 0, done.stdout + done.stderr
    told = iter(done.stdout.splitlines())
    for expected in (
        "lab up --hosts 2 --catalog consul", "denied: no intention allows shop -> web", "intention create", "HTTP status 200",
        "TLS records: ", "in clear: never", "unidentified", "healthy", "Nothing is left",
    ):  # fmt: skip
        assert any(expected in line for line in told), f"{expected!r} is missing or out of order:\n{done.stdout}"
    assert remains_of(name) == []


def test_the_whole_story_holds(name: str) -> None:
    """Denied and why, allowed, 200, the client's address, TLS only, others denied, everything removed."""
    done = demo(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "now script/demo" not in done.stdout
    told = iter(done.stdout.splitlines())
    for expected in (
        "$ nodeagent lab up", "denied: no intention allows shop -> web", "nodeagent intention allow shop web",
        "HTTP status 200", "HTTP status 200", "TLS records: ", "in clear: never", "unidentified", "healthy",
        "nodeagent lab down", "Nothing is left",
    ):  # fmt: skip
        assert any(expected in line for line in told), f"{expected!r} is missing or out of order:\n{done.stdout}"
    assert remains_of(name) == []


def test_kept_labs_go_on(name: str) -> None:
    """With --keep, every command of the story can be typed again."""
    done = demo(name, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    lab = Lab(name)
    url = f"http://{lab.host('host2').ipv4}:8080/"
    assert lab.exec("host1", "curl", "-sf", url, service="shop").stdout.startswith("hello from web")
    assert lab.exec("host1", "curl", "-sf", url, service="cron").returncode != 0
    removal = re.search(r"^\$ nodeagent lab down --name (\S+); rm -r (/\S+)$", done.stdout, re.MULTILINE)
    assert removal, "it says how to remove it"
    assert removal[1] == name
    shutil.rmtree(removal[2])


def test_a_demo_that_does_not_show_what_it_claims_fails(name: str, tmp_path: Path) -> None:
    """A client that succeeds where it should be denied is noticed; the lab is removed all the same."""
    (tmp_path / "curl").write_text("#!/bin/sh\necho hello from web\n")
    (tmp_path / "curl").chmod(0o755)
    done = demo(name, path=str(tmp_path))
    assert done.returncode == 1
    assert "FAILED: the command above should have been refused" in done.stderr
    assert remains_of(name) == []
