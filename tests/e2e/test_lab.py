"""The lab itself: hosts, cgroups, services, clean-up. What crosses the mesh has tests of its own."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.lab import cgroup, enter, layout
from nodeagent.lab.build import Plan
from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from nodeagent.lab.state import load_state, state_path, try_start_time
from nodeagent.lab.teardown import take_down
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support.remains import remains_of
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire

NODEAGENT = enter.nodeagent_command()
HTTP = [sys.executable, "-m", "http.server", "--bind", "::"]
# Answers on a port of both families with its own pid, until it is told to end.
SERVER = ["sh", "-c", 'echo started by $(id -u); exec "$0" -m http.server --bind :: "$1"', sys.executable]

NewName = Callable[[], str]


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Two hosts and a catalog, no agents: nothing between a caller and what it calls."""
    return make_lab(agents=False)


def nodeagent_lab(verb: str, lab: Lab | str, *arguments: str, **keywords: object) -> subprocess.CompletedProcess[str]:
    """The command line, as an operator uses it."""
    name = lab if isinstance(lab, str) else lab.name
    return subprocess.run(
        [NODEAGENT, "lab", verb, "--name", name, *arguments], text=True, capture_output=True, timeout=60, check=False, **keywords
    )


def get(lab: Lab, host: str, url: str) -> str:
    """The HTTP status that curl on `host` sees."""
    return lab.exec(host, "curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", url).stdout


# --- hosts ---------------------------------------------------------------------------------------------------------


def test_hosts_reach_each_other_over_both_families(bare: Lab) -> None:
    """An ordinary server on one host answers an ordinary client on the other."""
    bare.run("host2", "open", [*HTTP, "8080"], port=8080)
    second = bare.host("host2")
    assert get(bare, "host1", f"http://{second.ipv4}:8080/") == "200"
    assert get(bare, "host1", f"http://[{second.ipv6}]:8080/") == "200"
    assert get(bare, "host2", "http://127.0.0.1:8080/") == "200"
    assert get(bare, "host2", "http://[::1]:8080/") == "200"


def test_the_machine_is_not_reachable_from_a_host(bare: Lab) -> None:
    """A host has its own network: no way leads out of the lab."""
    routes = bare.exec("host1", "ip", "route", "show", "default").stdout
    assert routes == ""
    assert Path("/proc/self/ns/net").stat().st_ino != Path(f"/proc/{holder(bare, 'host1')}/ns/net").stat().st_ino


def test_every_host_has_its_own_directories(bare: Lab) -> None:
    """The README's paths are each host's own; everything else is the machine's."""
    for name in ("host1", "host2"):
        assert f'name = "{name}"' in bare.exec(name, "cat", "/etc/nodeagent/nodeagent.toml").stdout
    for directory in ("/run/nodeagent", "/var/lib/nodeagent", "/etc/nodeagent"):
        assert bare.exec("host1", "touch", f"{directory}/only-host1").returncode == 0
        assert bare.exec("host2", "test", "-e", f"{directory}/only-host1").returncode == 1
        assert not Path(directory, "only-host1").exists()
    assert bare.exec("host1", "cat", "/etc/hostname").stdout == Path("/etc/hostname").read_text()


def test_tokens_are_closed_to_services(bare: Lab) -> None:
    """A service on the host, whatever its user, reads neither token."""
    for token in ("node.token", "operator.token"):
        done = bare.exec("host1", "cat", f"/etc/nodeagent/{token}", service="shop", user="64999")
        assert done.returncode != 0
        assert done.stdout == ""


def holder(lab: Lab, host: str) -> int:
    """The pid of a host's holder."""
    return lab.state.holders[host].pid


# --- exec ----------------------------------------------------------------------------------------------------------


def test_exec_gives_streams_and_status_of_the_command(bare: Lab) -> None:
    """The command's alone, with odd arguments untouched."""
    script = 'cat; printf "%s|" "$@" >&2; exit 7'
    done = nodeagent_lab("exec", bare, "host1", "shop", "--", "sh", "-c", script, "sh", "--help", "a b", "", input="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "--help|a b||")


def test_exec_is_the_process_itself(bare: Lab) -> None:
    """A signal to it is a signal to the command: nothing stands between."""
    process = subprocess.Popen(
        [NODEAGENT, "lab", "exec", "--name", bare.name, "host1", "--", "sh", "-c", "echo $$; exec sleep 60"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == f"{process.pid}\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()


def test_exec_passes_the_terminal(bare: Lab) -> None:
    """An interactive shell on a host is a shell."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(NODEAGENT, [NODEAGENT, "lab", "exec", "--name", bare.name, "host1", "--", "tty"])
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        assert stream.readline().startswith(b"/dev/pts/")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_named_service_is_a_unit_and_nothing_else_is(bare: Lab) -> None:
    """The cgroup is what systemd would have made, from the command's first moment."""
    host = bare.host("host1")
    assert f"0::/{host.unit_cgroup('shop')}\n" in bare.exec("host1", "cat", "/proc/self/cgroup", service="shop").stdout
    plain = bare.exec("host1", "cat", "/proc/self/cgroup").stdout
    assert f"0::/{host.cgroup}/user.slice/" in plain
    assert ".service" not in plain.partition("0::")[2]


def test_nobody_can_pose_as_the_agent(bare: Lab) -> None:
    """Its unit is exempt from capture."""
    done = nodeagent_lab("exec", bare, "host1", "nodeagent", "--", "id")
    assert done.returncode == 1
    assert "agent's own unit" in done.stderr


def test_exec_as_a_user_has_its_groups_and_no_more(bare: Lab) -> None:
    """With an account or without one."""
    assert bare.exec("host1", "id", "-G", user="64999").stdout == "64999\n"
    assert bare.exec("host1", "id", "-u", service="shop", user="nobody").stdout == "65534\n"


# --- services ------------------------------------------------------------------------------------------------------


def test_a_service_runs_as_a_unit_listens_and_is_registered(bare: Lab) -> None:
    """When `lab run` returns, a caller can call."""
    bare.run("host1", "web", [*SERVER, "8081"], port=8081, protocol="http", user="64998")
    host = bare.host("host1")
    assert get(bare, "host2", f"http://{host.ipv4}:8081/") == "200"
    assert host.log("web").read_text().startswith("started by 64998\n")
    assert bare.pids("host1", "web")
    (entry,) = bare.catalog("GET", "/v1/health/service/web")
    assert (entry["Node"]["Node"], entry["Service"]["Port"]) == ("host1", 8081)
    assert entry["Service"]["TaggedAddresses"]["lan_ipv6"] == {"Address": host.ipv6, "Port": 8081}
    assert bare.catalog("GET", "/v1/config/service-defaults/web")["Protocol"] == "http"


def test_a_stopped_service_is_gone_everywhere(bare: Lab) -> None:
    """Process, cgroup, catalog, status."""
    bare.run("host1", "short", [*HTTP, "8082"], port=8082)
    (pid, *_) = bare.pids("host1", "short")
    assert nodeagent_lab("stop", bare, "host1", "short").returncode == 0
    assert try_start_time(pid) is None
    assert not (cgroup.mount() / bare.host("host1").unit_cgroup("short")).exists()
    assert bare.catalog("GET", "/v1/health/service/short") == []
    assert "short" not in nodeagent_lab("status", bare).stdout


def test_a_service_that_ignores_sigterm_is_stopped_all_the_same(bare: Lab) -> None:
    """After its grace, and with everything it started."""
    bare.run("host1", "stubborn", ["sh", "-c", "trap '' TERM; echo ready; sleep 600 & sleep 601"])
    log = bare.host("host1").log("stubborn")
    wait_until(lambda: log.read_text() == "ready\n", "the service is ready")
    pids = bare.pids("host1", "stubborn")
    bare.stop("host1", "stubborn")
    assert [try_start_time(pid) for pid in pids] == [None] * len(pids)


def test_a_command_that_ends_is_reported_with_its_log(bare: Lab) -> None:
    """What it said last is in the message; no cgroup and no registration stay behind."""
    done = nodeagent_lab(
        "run", bare, "host1", "broken", "--port", "8083", "--", "sh", "-c", "echo cannot read my file >&2; exit 1"
    )
    assert done.returncode == 1
    assert "broken on host1 ended before port 8083 listened; its log ends:\n  cannot read my file" in done.stderr
    assert not (cgroup.mount() / bare.host("host1").unit_cgroup("broken")).exists()
    assert bare.catalog("GET", "/v1/health/service/broken") == []


def test_a_running_service_is_replaced_only_on_request(bare: Lab) -> None:
    """The second start says how; a replaced unit has a new cgroup, as after systemctl restart."""
    bare.run("host1", "again", [*HTTP, "8084"], port=8084)
    unit = cgroup.mount() / bare.host("host1").unit_cgroup("again")
    before = unit.stat().st_ino
    with pytest.raises(LabError, match="again runs on host1 already; use --replace"):
        bare.run("host1", "again", [*HTTP, "8084"], port=8084)
    done = nodeagent_lab("run", bare, "host1", "again", "--port", "8084", "--replace", "--", *HTTP, "8084")
    assert done.returncode == 0, done.stderr
    assert unit.stat().st_ino != before


def test_a_taken_port_and_a_missing_program_are_refused_before_anything_starts(bare: Lab) -> None:
    """With the cure."""
    bare.run("host1", "first", [*HTTP, "8085"], port=8085)
    with pytest.raises(LabError, match="port 8085 on host1 is taken"):
        bare.run("host1", "second", [*HTTP, "8085"], port=8085)
    with pytest.raises(LabError, match="no-such-program: no such program"):
        bare.run("host1", "third", ["no-such-program"], port=8086)


def test_status_tells_programs_everything(bare: Lab) -> None:
    """Labs, hosts, addresses, agents, services."""
    bare.run("host2", "listed", [*HTTP, "8087"], port=8087)
    (told,) = json.loads(nodeagent_lab("status", bare, "-o", "json").stdout)["labs"]
    second = bare.host("host2")
    assert (told["name"], told["mode"], told["catalog_running"]) == (bare.name, "strict", True)
    host = told["hosts"][1]
    assert (host["name"], host["addresses"], host["agent"]) == ("host2", [second.ipv4, second.ipv6], "stopped")
    (listed,) = (each for each in host["services"] if each["name"] == "listed")
    assert listed["running"]
    assert listed["addresses"] == [f"{second.ipv4}:8087", f"[{second.ipv6}]:8087"]


# --- the wire ------------------------------------------------------------------------------------------------------


def test_the_capture_sees_clear_text(bare: Lab, capture: Capture, clear_canary: str) -> None:
    """Between hosts without agents everything is readable: what proves the absence of canaries can see them."""
    bare.run("host2", "clear", [*HTTP, "8088"], port=8088)
    wire = capture(bare)
    second = bare.host("host2")
    for address in (second.ipv4, f"[{second.ipv6}]"):
        assert get(bare, "host1", f"http://{address}:8088/?{clear_canary}") == "200"
    wire.assert_in_clear(clear_canary)
    with pytest.raises(AssertionError, match="crossed the wire in clear"):
        wire.assert_never_in_clear(clear_canary)


def test_a_capture_of_nothing_proves_nothing(make_lab: MakeLab, capture: Capture, canary: str) -> None:
    """An empty capture fails the assertion instead of passing it."""
    quiet = make_lab(agents=False, hosts=1)
    with pytest.raises(AssertionError, match="proves nothing"):
        capture(quiet).assert_never_in_clear(canary)


# --- up and down ---------------------------------------------------------------------------------------------------


@pytest.fixture
def name(new_name: NewName) -> Iterator[str]:
    """A lab's name; whatever the test leaves of it is removed."""
    made = new_name()
    yield made
    take_down(made)


def machine() -> str:
    """What of this machine a lab must not change."""
    commands = (["ip", "-o", "link"], ["ip", "rule"], ["ip", "-6", "rule"], ["ip", "route", "show", "table", "all"])
    told = "".join(subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands)
    return told + subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


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
    assert "no lab" in nodeagent_lab("exec", name, "host1", "--", "id").stderr
    shutil.rmtree(layout.lab_directory(name))
    assert nodeagent_lab("down", name).stdout == f"lab '{name}' is removed\n"
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
        [NODEAGENT, "lab", "up", "--name", name, "--no-agents", "--hosts", "20"],
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
        [NODEAGENT, "lab", "up", "--name", name, "--no-agents", "--hosts", "20"],
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


# --- agents --------------------------------------------------------------------------------------------------------


def test_a_service_is_in_force_when_run_returns(lab: Lab, wire: Wire, canary: str) -> None:
    """The very first call to a new service meets policy: it is refused, and nothing of it leaves the host in clear."""
    second = lab.host("host2")
    for number, address in enumerate((second.ipv4, f"[{second.ipv6}]")):
        port = 8101 + number
        lab.run("host2", f"fresh{number}", [*HTTP, str(port)], port=port)
        done = lab.exec("host1", "curl", "-sS", "-m", "10", f"http://{address}:{port}/?{canary}", service="shop")
        assert done.returncode != 0, done.stdout
    assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", "fresh0").returncode == 0
    url = f"http://{second.ipv4}:8101/?{canary}"
    wait_until(lambda: lab.exec("host1", "curl", "-sf", "-m", "10", url, service="shop").returncode == 0, "allowed")
    wire.assert_never_in_clear(canary)


def test_every_command_works_inside_a_host(lab: Lab) -> None:
    """As on a machine of its own, without options."""
    for words in ("status", "connections", "services", "certs", "intention list", "intercept verify"):
        done = lab.exec("host1", "nodeagent", *words.split())
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def test_processes_have_the_users_of_the_configuration(lab: Lab) -> None:
    """Workers and control are not root, in the lab either."""
    uids = sorted(Path(f"/proc/{pid}").stat().st_uid for pid in lab.pids("host1", "nodeagent"))
    assert {0, layout.CONTROL_UID, layout.WORKER_UID} == set(uids)
    assert uids.count(layout.WORKER_UID) >= 2


def test_an_agent_is_stopped_killed_and_started(lab: Lab) -> None:
    """Each start is healthy when the command returns, in a new cgroup, as a restarted unit's."""
    unit = cgroup.mount() / lab.host("host2").unit_cgroup("nodeagent")
    seen = {unit.stat().st_ino}
    for verbs in (("stop", "start"), ("kill", "start"), ("restart",)):
        for verb in verbs:
            done = nodeagent_agent(lab, "host2", verb)
            assert done.returncode == 0, done.stderr
            (_, told) = json.loads(nodeagent_lab("status", lab, "-o", "json").stdout)["labs"][0]["hosts"]
            assert told["agent"] == ("stopped" if verb in {"stop", "kill"} else "healthy")
        assert unit.stat().st_ino not in seen
        seen.add(unit.stat().st_ino)
    assert "runs already" in nodeagent_agent(lab, "host2", "start").stderr
    assert '"event":"supervisor_ready"' in nodeagent_agent(lab, "host2", "logs").stdout


def test_followed_logs_go_on(lab: Lab) -> None:
    """Until the reader has enough."""
    process = subprocess.Popen(
        [NODEAGENT, "lab", "agent", "--name", lab.name, "host1", "logs", "-f"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.terminate()
    process.stdout.close()
    assert process.wait(20) == -signal.SIGTERM


def test_mode_and_workers_are_as_asked(make_lab: MakeLab) -> None:
    """One worker, observe: everything passes as without an agent."""
    lab = make_lab(mode="observe", workers=1)
    status = json.loads(lab.exec("host1", "nodeagent", "status", "-o", "json").stdout)
    assert (status["mode"], len(status["workers"])) == ("observe", 1)
    lab.run("host2", "web", [*HTTP, "8080"], port=8080)
    assert get(lab, "host1", f"http://{lab.host('host2').ipv4}:8080/") == "200"


def test_an_agent_that_cannot_start_takes_the_lab_down_and_says_why(name: str, tmp_path: Path) -> None:
    """The end of its log is in the message."""
    broken = tmp_path / "nodeagent"
    broken.write_text(f"""#!/bin/sh
[ "$1" != run ] || {{ echo the agent is out of order >&2; exit 1; }}
exec {NODEAGENT} "$@"
""")
    broken.chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    env = {**os.environ, "PYTHONPATH": str(Path(layout.__file__).parents[2])}
    script = "import sys; sys.executable = sys.argv.pop(1); from nodeagent.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "python3"), "lab", "up", "--name", name],
        text=True, capture_output=True, timeout=60, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the agent on host1 ended; its log ends:\n  the agent is out of order" in done.stderr
    assert remains_of(name) == []


def test_down_with_agents_leaves_nothing_behind(name: str) -> None:
    """Rules, routes and sysctls were the hosts' own: the machine's are as before."""
    before = machine() + Path("/proc/sys/net/ipv4/tcp_fwmark_accept").read_text()
    lab = Lab.up(Plan(name))
    lab.run("host2", "web", [*HTTP, "8080"], port=8080)
    assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", "web").returncode == 0
    assert machine() + Path("/proc/sys/net/ipv4/tcp_fwmark_accept").read_text() == before
    assert nodeagent_lab("down", name).returncode == 0
    assert remains_of(name) == []
    assert machine() + Path("/proc/sys/net/ipv4/tcp_fwmark_accept").read_text() == before


def nodeagent_agent(lab: Lab, host: str, verb: str) -> subprocess.CompletedProcess[str]:
    """`nodeagent lab agent`."""
    return nodeagent_lab("agent", lab, host, verb)
