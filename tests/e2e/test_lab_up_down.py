"""Labs come up whole or not at all, and go without a trace: also after a crash of anything, at any moment."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.lab import cgroup, layout
from nodeagent.lab.build import Plan
from nodeagent.lab.lab import Lab
from nodeagent.lab.state import load_state, state_path, try_start_time
from nodeagent.lab.teardown import take_down
from tests.e2e.conftest import MakeLab
from tests.e2e.support.lab import HTTP, NODEAGENT, get, holder, machine, nodeagent_lab
from tests.e2e.support.remains import remains_of
from tests.e2e.support.waiting import wait_until

NewName = Callable[[], str]


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Two hosts and a catalog, no agents."""
    return make_lab(agents=False)


@pytest.fixture
def name(new_name: NewName) -> Iterator[str]:
    """A lab's name; whatever the test leaves of it is removed."""
    made = new_name()
    yield made
    take_down(made)


def test_down_leaves_nothing_behind(name: str) -> None:
    """No process, mount, cgroup or file; links, routes, rules and tables are as before, also while it is up."""
    before = machine()
    lab = Lab.up(Plan(name, agents=False))
    lab.run("host1", "web", [*HTTP, "8080"], port=8080)
    waiting = lab.popen("host2", ["sleep", "600"])
    assert machine() == before
    assert remains_of(name)
    assert lab.down()
    assert remains_of(name) == []
    assert machine() == before
    assert waiting.wait(20) == -signal.SIGKILL
    assert not lab.down()


def test_a_second_up_is_refused_and_harms_nothing(bare: Lab) -> None:
    """With the cure."""
    done = nodeagent_lab("up", bare, "--no-agents")
    assert done.returncode == 1
    assert f"lab '{bare.name}' is up already" in done.stderr
    assert bare.exec("host1", "true").returncode == 0


def test_two_ups_at_once_make_one_lab(name: str) -> None:
    """One wins, the other says why not, and the winner's lab works."""
    command = [NODEAGENT, "lab", "up", "--name", name, "--no-agents"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert sorted(status for _, status in ended) == [0, 1]
    (refusal,) = (words for words, status in ended if status)
    assert "is busy with" in refusal or "is up already" in refusal
    assert Lab(name).exec("host2", "true").returncode == 0


def test_labs_are_apart(name: str, bare: Lab) -> None:
    """Two labs have different addresses and do not see each other; ending one leaves the other alone."""
    other = Lab.up(Plan(name, hosts=1, agents=False))
    assert other.host("host1").ipv4 != bare.host("host1").ipv4
    other.run("host1", "web", [*HTTP, "8080"], port=8080)
    assert get(bare, "host1", f"http://{other.host('host1').ipv4}:8080/") == "000"
    bare.run("host2", "survivor", [*HTTP, "8089"], port=8089)
    other.down()
    assert get(bare, "host1", f"http://{bare.host('host2').ipv4}:8089/") == "200"


def test_down_needs_no_state_file(name: str) -> None:
    """A full disk or an eager hand must not make a lab unremovable."""
    Lab.up(Plan(name, agents=False))
    state_path(name).unlink()
    gone = nodeagent_lab("exec", name, "host1", "--", "id")
    assert (gone.returncode, "no lab" in gone.stderr) == (4, True)
    shutil.rmtree(layout.lab_directory(name))
    assert nodeagent_lab("down", name).stdout == f"lab '{name}' is removed\n"
    again = nodeagent_lab("down", name)
    assert (again.returncode, again.stderr) == (4, f"Error: there is no lab '{name}'; see: nodeagent lab status\n")
    assert remains_of(name) == []


def test_a_host_whose_holder_died_is_not_entered_and_can_be_removed(name: str) -> None:
    """Its pid may be anybody's now: commands say what to do, `down` removes everything."""
    lab = Lab.up(Plan(name, agents=False))
    lab.run("host1", "web", [*HTTP, "8080"], port=8080)
    os.kill(holder(lab, "host1"), signal.SIGKILL)
    wait_until(lambda: try_start_time(holder(lab, "host1")) is None, "the holder is gone")
    done = nodeagent_lab("exec", name, "host1", "--", "id")
    assert done.returncode == 1
    assert f"host1 of lab '{name}' is gone; run: nodeagent lab down --name {name}" in done.stderr
    assert "is gone" in nodeagent_lab("status", name).stdout
    assert nodeagent_lab("down", name).returncode == 0
    assert remains_of(name) == []


@pytest.mark.parametrize("moment", ["state file", "bridge", "catalog"])
def test_an_up_that_is_killed_half_way_can_be_removed(name: str, moment: str) -> None:
    """SIGKILL at any moment: the lab says that it is half made, `down` removes what there is."""
    process = subprocess.Popen(
        ["env", "--default-signal", NODEAGENT, "lab", "up", "--name", name, "--no-agents", "--hosts", "20"],  # also below nohup
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    fact = {
        "state file": state_path(name).exists,
        "bridge": lambda: any(cgroup.children(f"{layout.CGROUP}/{name}/host1")),
        "catalog": (layout.lab_directory(name) / "hub" / "catalog").exists,
    }[moment]
    wait_until(lambda: fact() or process.poll() is not None, f"the {moment} is there")
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    assert "half made" in nodeagent_lab("exec", name, "host1", "--", "id").stderr
    assert "up already, or remains of it" in nodeagent_lab("up", name).stderr
    assert nodeagent_lab("down", name).returncode == 0
    assert remains_of(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_up_removes_what_it_made(name: str, number: signal.Signals) -> None:
    """Ctrl-C, a closed terminal, a job that is cancelled."""
    process = subprocess.Popen(
        ["env", "--default-signal", NODEAGENT, "lab", "up", "--name", name, "--no-agents", "--hosts", "20"],  # also below nohup
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until((layout.lab_directory(name) / "host1").exists, "the first host is being made")
    process.send_signal(number)
    assert process.wait(60) not in (0, -signal.SIGKILL)
    assert remains_of(name) == []


@pytest.mark.parametrize("tool", ["mount", "ip", "unshare"])
def test_an_up_that_fails_half_way_says_why_and_cleans_up(name: str, tool: str, tmp_path: Path) -> None:
    """A program of the system that fails: its own words are in the message."""
    broken = tmp_path / tool
    broken.write_text(f"#!/bin/sh\necho the {tool} is out of order >&2\nexit 1\n")
    broken.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = nodeagent_lab("up", name, "--no-agents", env=env)
    assert done.returncode == 1
    assert f"the {tool} is out of order" in done.stderr
    assert remains_of(name) == []


def test_a_crash_of_everything_at_once_leaves_nothing_after_down(name: str) -> None:
    """Every process of the lab dies at the same moment, as in an out-of-memory storm."""
    lab = Lab.up(Plan(name, agents=False))
    lab.run("host1", "web", [*HTTP, "8080"], port=8080)
    for pid in cgroup.pids(f"{layout.CGROUP}/{name}"):
        os.kill(pid, signal.SIGKILL)
    assert nodeagent_lab("status", name).returncode == 1
    assert nodeagent_lab("down", name).returncode == 0
    assert remains_of(name) == []


def test_an_operators_mount_inside_the_lab_loses_no_file(name: str, tmp_path: Path) -> None:
    """What is mounted below the lab's directory is unmounted, never deleted through."""
    Lab.up(Plan(name, hosts=1, agents=False))
    (tmp_path / "precious").write_text("data")
    point = layout.lab_directory(name) / "host1" / "data"
    point.mkdir()
    subprocess.run(["mount", "--bind", tmp_path, point], check=True)
    assert nodeagent_lab("down", name).returncode == 0
    assert (tmp_path / "precious").read_text() == "data"
    assert remains_of(name) == []


def test_a_machine_with_nothing_but_cgroup_v2_works_too(name: str) -> None:
    """As Debian boots: the tree is mounted at /sys/fs/cgroup itself."""
    script = """
        set -e
        while umount /sys/fs/cgroup/* 2>/dev/null; do :; done
        umount -R /sys/fs/cgroup 2>/dev/null || :
        grep -q ' /sys/fs/cgroup .* cgroup2 ' /proc/self/mountinfo || mount -t cgroup2 none /sys/fs/cgroup
        "$0" lab up --name "$1" --no-agents
        "$0" lab run --name "$1" host1 web --port 8080 -- "$2" -m http.server 8080
        "$0" lab exec --name "$1" host1 shop -- cat /proc/self/cgroup
        "$0" lab down --name "$1"
        test ! -e /sys/fs/cgroup/nodeagent-lab/"$1"
    """
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, NODEAGENT, name, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"0::/nodeagent-lab/{name}/host1/system.slice/shop.service" in done.stdout
    assert remains_of(name) == []


def test_twenty_hosts_are_up_in_seconds(name: str) -> None:
    """The first and the last host speak; addresses read as their numbers."""
    lab = Lab.up(Plan(name, hosts=20, agents=False))
    lab.run("host20", "web", [*HTTP, "8080"], port=8080)
    assert lab.host("host20").ipv6.endswith("::20")
    assert get(lab, "host1", f"http://[{lab.host('host20').ipv6}]:8080/") == "200"
    assert load_state(name).hosts == 20


def test_mode_and_workers_are_as_asked(make_lab: MakeLab) -> None:
    """One worker, observe: everything passes as without an agent."""
    lab = make_lab(mode="observe", workers=1)
    status = json.loads(lab.exec("host1", "nodeagent", "status", "-o", "json").stdout)
    assert (status["mode"], [w["state"] for w in status["workers"]].count("serving")) == ("observe", 1)
    lab.run("host2", "web", [*HTTP, "8080"], port=8080)
    assert get(lab, "host1", f"http://{lab.host('host2').ipv4}:8080/") == "200"


def test_an_agent_that_cannot_start_takes_the_lab_down_and_says_why(name: str, tmp_path: Path) -> None:
    """The end of its log is in the message."""
    broken = tmp_path / "nodeagent"
    broken.write_text(f"""#!/bin/sh
[ "$1" != run ] || {{ echo the agent is out of order >&2; exit 1; }}
exec {NODEAGENT} "$@"
""")
    beside = tmp_path / "python3"  # whose programs the lab starts
    beside.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in (broken, beside):
        program.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(Path(layout.__file__).parents[2])}
    script = "import sys; sys.executable = sys.argv.pop(1); from nodeagent.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(beside), "lab", "up", "--name", name],
        text=True, capture_output=True, timeout=60, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the agent on host1 ended; its log ends:\n  the agent is out of order" in done.stderr
    assert remains_of(name) == []


def test_down_with_agents_leaves_nothing_behind(name: str) -> None:
    """Rules, routes and sysctls were the hosts' own: the machine's are as before."""
    before = machine()
    lab = Lab.up(Plan(name))
    lab.run("host2", "web", [*HTTP, "8080"], port=8080)
    assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", "web").returncode == 0
    assert machine() == before
    assert nodeagent_lab("down", name).returncode == 0
    assert remains_of(name) == []
    assert machine() == before
