"""The lab itself: hosts, cgroups, services, clean-up. What crosses the mesh has tests of its own."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.lab import cgroup, layout
from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from nodeagent.lab.state import try_start_time
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.lab import HTTP, NODEAGENT, get, holder, nodeagent_lab
from tests.e2e.support.waiting import wait_until
from tests.e2e.support.wire import Wire

# Says as whom it runs, then answers on both families.
SERVER = ["sh", "-c", 'echo started by $(id -u); exec "$0" -m http.server --bind :: "$1"', sys.executable]


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Two hosts and a catalog, no agents: nothing between a caller and what it calls."""
    return make_lab(agents=False)


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
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # before the terminal hangs up


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
    assert done.returncode == 2
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
    again = nodeagent_lab("stop", bare, "host1", "short")
    assert (again.returncode, "there is no service short on host1" in again.stderr) == (4, True)


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
    assert "broken on host1 ended with status 1 before port 8083 listened; its log ends:\n  cannot read my file" in done.stderr
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


def test_the_hub_runs_no_service_and_no_agent(bare: Lab) -> None:
    """Its network has the catalog and the machine's own /etc/nodeagent: nothing of it is started, stopped or read."""
    for arguments in (
        ("run", "hub", "web", "--port", "8089", "--", *HTTP, "8089"), ("stop", "hub", "nodeagent-catalog"),
        *(("agent", "hub", verb) for verb in ("start", "stop", "kill", "restart", "logs")),
    ):  # fmt: skip
        verb, *rest = arguments
        done = nodeagent_lab(verb, bare, *rest)
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == f"Error: lab '{bare.name}' has no host 'hub'; its hosts: host1, host2\n"
    assert json.loads(nodeagent_lab("status", bare, "-o", "json").stdout)["labs"][0]["catalog_running"]
    assert not (cgroup.mount() / bare.host("hub").unit_cgroup("web")).exists()


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_another_user_does_not_get_roots_token(bare: Lab, verb: str) -> None:
    """Neither a service nor a command."""
    env = {**os.environ, "CONSUL_HTTP_TOKEN": "operators"}
    done = nodeagent_lab(verb, bare, "host1", f"env-{verb}", "--user", "64997", "--", "env", env=env)
    assert done.returncode == 0, done.stderr
    log = bare.host("host1").log(f"env-{verb}")
    if verb == "run":
        wait_until(lambda: not bare.pids("host1", "env-run"), "the service has ended")
    told = log.read_text() if verb == "run" else done.stdout
    assert "PATH=" in told
    assert "operators" not in told


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
    """Each is healthy when the command returns; a start makes a new cgroup, as systemd does. A restart of none is a start."""
    unit = cgroup.mount() / lab.host("host2").unit_cgroup("nodeagent")
    seen = {unit.stat().st_ino}
    for verbs in (("restart", "stop", "start"), ("kill", "start"), ("stop", "restart")):
        for verb in verbs:
            done = nodeagent_agent(lab, "host2", verb)
            assert done.returncode == 0, done.stderr
            (_, told) = json.loads(nodeagent_lab("status", lab, "-o", "json").stdout)["labs"][0]["hosts"]
            assert told["agent"] == ("stopped" if verb in {"stop", "kill"} else "healthy")
        assert unit.stat().st_ino not in seen
        seen.add(unit.stat().st_ino)
    assert "runs already" in nodeagent_agent(lab, "host2", "start").stderr
    assert '"event":"supervisor_ready"' in nodeagent_agent(lab, "host2", "logs").stdout
    assert len(nodeagent_lab("agent", lab, "host2", "logs", "--lines", "2").stdout.splitlines()) == 2


def test_an_agent_whose_configuration_is_bad_is_not_started(lab: Lab) -> None:
    """The last that is said is what is wrong, and each state names the command that helps in it."""
    path = lab.host("host2").own("etc") / "nodeagent.toml"
    good = path.read_text()
    assert nodeagent_agent(lab, "host2", "stop").stdout == "the agent on host2 is stopped\n"
    assert nodeagent_agent(lab, "host2", "kill").stdout == "no agent ran on host2\n"
    start = f"nodeagent lab agent --name {lab.name} host2 start"
    try:
        for wrong, told in (('mode = "strickt"', "host.mode: Invalid enum value 'strickt'"), ('mode = "strict"\nlabel = 1', "label")):
            path.write_text(good.replace('mode = "strict"', wrong, 1))
            done = nodeagent_agent(lab, "host2", "start")
            assert (done.returncode, told in done.stderr, "nsenter" in done.stderr) == (1, True, False), done.stderr
        path.write_text(good.replace(f"worker_user = {layout.WORKER_UID}", f"worker_user = {layout.CONTROL_UID}"))
        done = nodeagent_agent(lab, "host2", "start")
        (head, *log) = done.stderr.splitlines()
        assert (done.returncode, head) == (1, "Error: the agent on host2 ended; its log ends:")
        assert log == [f"  Error: host.control_user and host.worker_user are the same uid {layout.CONTROL_UID}; give two users"]
    finally:
        path.write_text(good)
    asked = lab.exec("host2", "nodeagent", "status")
    assert (asked.returncode, "new mesh connections of this host are reset" in asked.stderr) == (3, True)
    assert asked.stderr.rstrip().endswith(f"start it: {start}")
    assert start in nodeagent_agent(lab, "host2", "reload").stderr
    assert nodeagent_agent(lab, "host2", "start").stdout == "the agent on host2 runs, and is healthy\n"


def test_the_catalog_is_stopped_killed_and_started(lab: Lab) -> None:
    """It answers when the command returns, with what it knew; agents find it again by themselves."""
    before = lab.catalog("GET", "/v1/catalog/nodes")
    for verbs in (("restart",), ("stop", "start"), ("kill", "start"), ("stop", "stop", "restart")):
        for verb in verbs:
            done = nodeagent_lab("catalog", lab, verb)
            assert done.returncode == 0, done.stderr
            told = json.loads(nodeagent_lab("status", lab, "-o", "json").stdout)["labs"][0]
            assert told["catalog_running"] is (verb not in {"stop", "kill"})
        assert [node["Node"] for node in lab.catalog("GET", "/v1/catalog/nodes")] == [node["Node"] for node in before]
    refused = nodeagent_lab("catalog", lab, "start")
    assert (refused.returncode, "runs already" in refused.stderr) == (1, True)
    assert nodeagent_lab("catalog", lab, "logs", "--lines", "1").stdout.count("\n") == 1
    for host in ("host1", "host2"):
        wait_until(lambda host=host: look.status(lab, host)["catalog"]["connected"], f"the catalog at {host}")


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


def nodeagent_agent(lab: Lab, host: str, verb: str) -> subprocess.CompletedProcess[str]:
    """`nodeagent lab agent`."""
    return nodeagent_lab("agent", lab, host, verb)
