"""`nodeagent check` on hosts of a lab: nothing has failed, then something is broken for real, found, and cured."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import lab_directory
from tests.e2e.support import look
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
FAILED, UNREACHABLE, TIMEOUT = 1, 3, 5
MAX = "/proc/sys/net/netfilter/nf_conntrack_max"


class Breakage(NamedTuple):
    """What a shell on host1 does, and what is found then."""

    do: str
    name: str
    level: str
    found: str
    cure: str
    heal: str = ""
    """Empty: the cure that was printed, as it is."""
    exit_code: int = 0


BREAKAGES = {
    "a small connection table": Breakage(
        f"echo 1000 >/run/nodeagent/low && mount --bind /run/nodeagent/low {MAX}", "conntrack", "warning", "room for 1000 entries",
        "sysctl -w net.netfilter.nf_conntrack_max=", f"umount {MAX}; rm /run/nodeagent/low",
    ),
    "strict source checks": Breakage("sysctl -qw net.ipv4.conf.all.rp_filter=1", "rp_filter", "warning", "checked strictly", "rp_filter=2"),
    "another mesh's rules": Breakage(
        "nft 'table ip istio { chain ISTIO_OUTPUT { type nat hook output priority -100; jump ISTIO_REDIRECT; };"
        " chain ISTIO_REDIRECT { tcp dport 9 redirect to :15001; }; }'",
        "redirections", "failed", "of Istio", "take Istio's rules away", "nft delete table ip istio", FAILED,
    ),
    "a redirection before ours": Breakage(
        "nft 'table ip mine { chain early { type nat hook output priority -150; tcp dport 9 redirect to :10; }; }'",
        "redirections", "failed", "comes before nodeagent's rules", "remove it", "nft delete table ip mine", FAILED,
    ),
    "a table that bears our name": Breakage(
        "nft add table inet nodeagent_old", "rules", "warning", "inet nodeagent_old", "nft delete table inet nodeagent_old"
    ),
    "no token": Breakage(
        "mv /etc/nodeagent/node.token /etc/nodeagent/away", "files", "failed", "the token /etc/nodeagent/node.token is missing",
        "put it there, readable by", "mv /etc/nodeagent/away /etc/nodeagent/node.token", FAILED,
    ),
    "a token open to others": Breakage(
        "chmod 0444 /etc/nodeagent/node.token", "files", "failed", "open to others (mode 0444)", "chmod 0400 /etc/nodeagent/node.token",
        exit_code=FAILED,
    ),
    "another host's token": Breakage(
        "cp -p /etc/nodeagent/node.token /etc/nodeagent/away && echo nonsense >/etc/nodeagent/node.token", "token", "failed", "the token is not taken",
        "nodeagent catalog token create --node host1", "cp -p /etc/nodeagent/away /etc/nodeagent/node.token; rm /etc/nodeagent/away", FAILED,
    ),
    "a state directory that is read-only": Breakage(
        "mount -o remount,bind,ro /var/lib/nodeagent", "state", "failed", "read-only", "mount -o remount,rw ",
        "mount -o remount,bind,rw /var/lib/nodeagent", FAILED,
    ),
    "an address that the host has not": Breakage(
        "ip address del $(ip -4 -o address show scope global | awk '{print $4, \"dev\", $2}' | tee /run/nodeagent/was)", "addresses", "failed",
        "is no address of this host", "ip address add ", "ip address add $(cat /run/nodeagent/was); rm /run/nodeagent/was", FAILED,
    ),
    "client ports among ours": Breakage(
        'sysctl -qw net.ipv4.ip_local_port_range="10000 60999"', "client ports", "warning", "15001, 15006, 15008", 'sysctl -w net.ipv4.ip_local_port_range="32768'
    ),
    "short queues": Breakage("sysctl -qw net.core.somaxconn=128", "queues", "warning", "cut to 128", "sysctl -w net.core.somaxconn=4096"),
}  # fmt: skip


def check(lab: Lab, host: str = "host1", *options: str, before: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and findings."""
    done = lab.exec(host, *before, "nodeagent", "check", "-o", "json", *options)
    assert done.stdout, f"{done.returncode} {done.stderr}"
    answer = json.loads(done.stdout)
    assert answer["ok"] == (not failures(answer["findings"]))
    return done.returncode, answer["findings"]


def failures(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has failed."""
    return [finding for finding in findings if finding["level"] == "failed"]


def the(findings: list[dict[str, Any]], name: str, level: str, found: str) -> dict[str, Any]:
    """The one finding that says this."""
    (finding,) = [f for f in findings if (f["name"], f["level"]) == (name, level) and found in f["found"]]
    return finding


def shell(lab: Lab, script: str, host: str = "host1") -> None:
    """A script on a host, as its operator types it."""
    done = lab.exec(host, "sh", "-c", script)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", autouse=True)
def mesh(lab: Lab) -> Iterator[None]:
    """`web` listens on host2, and is registered there."""
    with Unit(lab, "host2", "web") as web:
        web.listen("::", WEB)
        lab.register("host2", "web", WEB)
        look.allow(lab, "shop", "web")
        yield


@pytest.fixture
def cured(lab: Lab) -> Iterator[None]:
    """Afterwards nothing fails on host1."""
    yield
    eventually(lambda: check(lab)[0] == 0, 60, "nothing has failed")


def test_healthy_hosts_have_nothing_to_cure(lab: Lab) -> None:
    """Every group is looked at; each has proved to the other who it is, where it can."""
    for host in ("host1", "host2"):
        status, findings = check(lab, host)
        assert (status, failures(findings)) == (0, [])
        assert {f["group"] for f in findings} == {"host", "kernel", "firewall", "routing", "catalog", "identity", "peers", "time"}
        assert not [f for f in findings if "could not be looked at" in f["found"]]
    the(check(lab)[1], "peers", "ok", "1 peers reached, 1 have proved who they are")
    the(check(lab, "host2")[1], "services", "ok", "listening where the catalog says: web")


def test_people_get_signs_and_no_codes_in_a_pipe(lab: Lab) -> None:
    """And programs that only ask for the exit status get it."""
    done = lab.exec("host1", "nodeagent", "check")
    assert done.returncode == 0, done.stderr
    assert "  ✓ agent: nodeagent " in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 failed")


@pytest.mark.parametrize("what", BREAKAGES)
@pytest.mark.usefixtures("cured")
def test_what_is_broken_is_found_and_can_be_cured(lab: Lab, what: str) -> None:
    """With its level, exit status and cure; the cure that is printed is run, where it is whole."""
    breakage = BREAKAGES[what]
    shell(lab, breakage.do)
    finding: dict[str, Any] = {"cure": ":"}
    try:
        status, findings = check(lab)
        finding = the(findings, breakage.name, breakage.level, breakage.found)
        assert status == breakage.exit_code
        assert breakage.cure in finding["cure"]
    finally:
        shell(lab, breakage.heal or finding["cure"])


def test_a_service_that_is_not_where_it_is_registered(lab: Lab) -> None:
    """Registered and gone; listening on loopback alone; registered at loopback."""
    with Unit(lab, "host1", "lonely") as lonely:
        lonely.listen("127.0.0.1", 8090)
        by_force = ("--address", "127.0.0.1", "--token-file", "/etc/nodeagent/operator.token")  # a host's own token may not
        for name, port, at in (("gone", 8091, ()), ("lonely", 8090, ()), ("selfish", 8090, by_force)):
            done = lab.exec("host1", "nodeagent", "service", "register", name, "--port", str(port), *at)
            assert done.returncode == 0, done.stderr
        try:
            status, findings = check(lab)
            assert status == 0, failures(findings)
            the(findings, "services", "warning", "where the catalog says gone is")
            the(findings, "services", "warning", "lonely is registered at")
            the(findings, "services", "warning", "selfish is registered at 127.0.0.1")
        finally:
            for name in ("gone", "lonely", "selfish"):
                lab.exec("host1", "nodeagent", "service", "deregister", name)


def test_a_clock_that_is_wrong_is_told_by_the_catalogs(lab: Lab) -> None:
    """Ahead and behind, where the catalog's own certificate is not valid yet and only its date is listened to."""
    for offset, word in (("+10m", "ahead of"), ("-10m", "behind")):
        status, findings = check(lab, before=("faketime", "-f", offset))
        assert status == FAILED
        assert "timedatectl" in the(findings, "clock", "failed", word)["cure"]


@pytest.mark.usefixtures("cured")
def test_a_peer_whose_port_is_blocked(lab: Lab) -> None:
    """The only one: so it may be ours."""
    shell(lab, f"nft 'table inet wall {{ chain in {{ type filter hook input priority -200; tcp dport {limits.TUNNEL_PORT} drop; }}; }}'", "host2")
    try:
        status, findings = check(lab)
        assert status == FAILED
        assert "on host2: nodeagent check" in the(findings, "peers", "failed", "host2 at")["cure"]
    finally:
        shell(lab, "nft delete table inet wall", "host2")


@pytest.mark.usefixtures("cured")
def test_a_catalog_that_is_away_is_found_and_nothing_hangs(lab: Lab) -> None:
    """What depends on it could not be looked at, and is not called well."""
    with catalog_away(lab):
        status, findings = check(lab)
        assert status == FAILED
        cure = the(findings, "link", "failed", "the catalog does not answer")["cure"]
        assert f"nodeagent lab catalog --name {lab.name} logs" in cure
        for name in ("token", "enrolment", "services", "peers", "clock"):
            the(findings, name, "warning", "could not be looked at: the catalog does not answer")


@contextmanager
def catalog_away(lab: Lab) -> Iterator[None]:
    """No packet of host1 reaches the catalog."""
    place = lab.host(layout.HUB)
    shell(lab, f"nft 'table inet gone {{ chain out {{ type filter hook output priority -300; ip daddr {place.ipv4} reject; }}; }}'")
    try:
        yield
    finally:
        shell(lab, "nft delete table inet gone")


@pytest.mark.usefixtures("cured")
def test_without_an_agent_the_rest_is_looked_at_all_the_same(lab: Lab) -> None:
    """Exit status 3; a table that somebody deletes meanwhile and a port that somebody takes are found; `--pre` asks for no agent."""
    lab.stop_agent("host1")
    try:
        shell(lab, "nft delete table inet nodeagent")
        with Unit(lab, "host1", "thief") as thief:
            thief.listen("127.0.0.1", 15006)
            status, findings = check(lab)
            assert status == UNREACHABLE
            gone = the(findings, "agent", "failed", "the agent has ended; meanwhile nothing is captured")
            assert gone["cure"] == f"start it: nodeagent lab agent --name {lab.name} host1 start"
            the(findings, "ports", "failed", "port 15006 is held by process ")
            cure = the(findings, "rules", "failed", "the interception rules are not there: nothing is captured")["cure"]
            assert cure.endswith(f"if it is to run: nodeagent lab agent --name {lab.name} host1 start")
            assert check(lab, "host1", "--pre")[0] == FAILED
        assert check(lab, "host1", "--pre")[0] == 0
        assert check(lab, "host1", "--wait", "1")[0] == TIMEOUT
        shell(lab, "nodeagent intercept apply")
        assert not [f for f in check(lab)[1] if f["group"] == "firewall" and f["level"] == "failed"]
    finally:
        lab.start_agent("host1")


def test_waiting_ends_when_the_agent_is_there(lab: Lab) -> None:
    """As a gate after a restart: what it waits for is on standard error."""
    lab.stop_agent("host1")
    waiting = lab.popen("host1", ["nodeagent", "check", "--wait", "120", "-o", "json"], stdout=-1, stderr=-1, text=True)
    try:
        assert waiting.stderr is not None
        assert next(line for line in waiting.stderr if " failed, " in line)
    finally:
        lab.start_agent("host1")
        out, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert json.loads(out)["ok"] is True


def test_whoever_is_not_root_is_told_what_could_not_be_seen(lab: Lab) -> None:
    """Doubtful, not well, and no traceback."""
    done = lab.exec("host1", "nodeagent", "check", "-o", "json", user="65534")
    findings = json.loads(done.stdout)["findings"]
    assert "Traceback" not in done.stderr
    assert [f for f in findings if f["cure"] == "run it as root: sudo nodeagent check"]


def test_a_host_that_is_looked_at_is_not_changed(lab: Lab) -> None:
    """Rules, routes, settings and files are as before."""

    def state() -> tuple[str, ...]:
        scripts = ("nft -s list tables; ip rule; ip route show table all; sysctl -a -r '^net[.]' 2>/dev/null | grep -v nf_conntrack_count",)
        return (*(lab.exec("host1", "sh", "-c", script).stdout for script in scripts), *files_of(lab_directory(lab.name) / "host1"))

    before = state()
    check(lab)
    assert state() == before


def files_of(directory: Path) -> list[str]:
    """The files that are not logs."""
    return sorted(str(path) for path in directory.rglob("*") if path.is_file() and path.suffix != ".log")
