"""The agent as a unit of real systemd hosts: started, stopped, killed, hung, and what becomes of calls meanwhile."""

import json
import signal
import time

import pytest

from tests.hosts.support.host import Host
from tests.hosts.support.mesh import Mesh, call, processes_of, start_shop, wait_meshed

REFUSED = "Couldn't connect to server", "Could not connect to server", "Connection reset by peer"
EXPOSURE = {"nodeagent": 3.0, "nodeagent-catalog": 2.0, "nodeagent-intercept": 2.3}


@pytest.mark.parametrize("unit", EXPOSURE)
def test_units_are_well_formed_and_hardened(host: Host, unit: str) -> None:
    """This release's systemd understands every line, and the exposure stays below what was reached."""
    verified = host.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}.service")
    assert [line for line in verified.stderr.splitlines() if "nodeagent" in line] == []
    said = host.run(
        f"systemd-analyze security --offline=yes --threshold={EXPOSURE[unit] * 10:.0f} /etc/systemd/system/{unit}.service", check=False
    )
    assert said.returncode == 0, said.stdout


def test_a_host_that_was_installed_by_hand_serves(host: Host) -> None:
    """All units are active, none has failed, and systemd was told by the agent itself that it is ready."""
    for unit in ("nodeagent", "nodeagent-intercept", "nginx"):
        assert host.show(unit, "ActiveState") == "active"
    assert host.enter("systemctl", "--failed", "--no-legend").stdout == ""
    assert host.show("nodeagent", "StatusText") == "2 workers, interception active"
    assert host.run("nodeagent", "intercept", "verify").returncode == 0


def test_a_call_is_denied_until_it_is_allowed(whole: Mesh) -> None:
    """Between the releases, in both directions; the caller's journal has the refusal with its reason and its cure."""
    whole.forbid()
    for host in whole.hosts:
        assert call(host, whole.other(host)).startswith("curl: ")
        host.wait_for(lambda told=host: "no intention allows shop -> nginx" in told.messages("nodeagent"), "the refusal's line")
    whole.allow()
    for host in whole.hosts:
        assert call(host, whole.other(host)) == f"from {whole.other(host).name}\n"
        assert call(host, host) == f"from {host.name}\n"


def test_stop_leaves_the_rules_and_no_process(whole: Mesh, host: Host) -> None:
    """Fail closed: calls of the host and to it are refused at once, and a start cures it."""
    host.enter("systemctl", "stop", "nodeagent")
    host.wait_for(lambda: processes_of(host) == [], "nobody")
    assert "table inet nodeagent" in host.run("nft list tables").stdout
    began = time.monotonic()
    for caller in whole.hosts:
        assert call(caller, whole.other(caller)).strip().endswith(REFUSED)
    assert time.monotonic() - began < 10
    host.enter("systemctl", "start", "nodeagent")
    assert "healthy" in host.run("nodeagent status").stdout, "at once: systemctl returned because the agent is ready"
    for caller in whole.hosts:
        assert call(caller, whole.other(caller)).startswith("from ")


def test_a_killed_supervisor_comes_back_and_a_stop_leaves_nobody_of_it(whole: Mesh, host: Host) -> None:
    """systemd starts another one; workers that outlived theirs finish what they carry, but not beyond a stop."""
    callee = whole.other(host)
    start_download(host, callee)
    before, old = host.show("nodeagent", "MainPID"), set(processes_of(host))
    host.enter("systemctl", "kill", "--kill-who=main", "--signal=KILL", "nodeagent")
    host.wait_for(lambda: host.show("nodeagent", "MainPID") not in (before, "0"), "another supervisor")
    wait_meshed(host)
    reached = _size(host)
    host.wait_for(lambda: _size(host) > reached, "more bytes by way of the old worker")
    assert old & set(processes_of(host))
    assert host.run(f"curl -sS -m 20 http://{host.address}/", check=False).stdout == ""  # nobody known: the new rules hold
    host.enter("systemctl", "stop", "nodeagent")
    host.wait_for(lambda: processes_of(host) == [], "nobody")
    host.enter("systemctl", "stop", "shop")


def start_download(caller: Host, callee: Host) -> None:
    """The shop reads from nginx for minutes; returns when it has its first bytes."""
    callee.path("/var/www/html/big").write_bytes(b"x" * 50_000_000)
    caller.path("/run/big").unlink(missing_ok=True)
    start_shop(caller, f"exec curl -sS -o /run/big --limit-rate 200k http://{callee.address}/big", is_awaited=False)
    caller.wait_for(lambda: _size(caller) > 0, "the first bytes")


def _size(host: Host) -> int:
    big = host.path("/run/big")
    return big.stat().st_size if big.exists() else 0


def test_a_hung_supervisor_is_replaced(whole: Mesh) -> None:
    """Nobody feeds the watchdog: systemd kills it and starts another, on both releases, and the mesh is back."""
    before = {host: host.show("nodeagent", "MainPID") for host in whole.hosts}
    for host, pid in before.items():
        host.enter("kill", f"-{signal.SIGSTOP.value}", pid)
    for host, pid in before.items():
        host.wait_for(lambda host=host, pid=pid: host.show("nodeagent", "MainPID") not in (pid, "0"), "another supervisor", 120)
        assert "Watchdog timeout" in host.messages("nodeagent")
        wait_meshed(host)
    for host in whole.hosts:
        assert call(host, whole.other(host)).startswith("from ")


def test_an_agent_that_hangs_whole_is_replaced(whole: Mesh, host: Host) -> None:
    """Who called in the first moments is served by the next one; what hung is gone, and who talked with it has met its end."""
    other, old = whole.other(host), processes_of(host)
    start_download(other, host)
    host.enter("kill", f"-{signal.SIGSTOP.value}", *old)
    assert call(host, other, seconds=60) == f"from {other.name}\n"
    host.wait_for(lambda: not set(old) & set(processes_of(host)), "nobody of them", 120)
    assert "Watchdog timeout" in host.messages("nodeagent")
    other.wait_for(lambda: not other.run(f"ss -Htn dst {host.address} dport = :80").stdout, "the end of the download")
    other.enter("systemctl", "stop", "shop")
    wait_meshed(host)
    assert call(other, host) == f"from {host.name}\n"


def test_who_calls_as_all_but_its_sentry_hang_is_reset(whole: Mesh, host: Host) -> None:
    """Within all that the unit forbids; the watchdog does the rest."""
    other = whole.other(host)
    old = [pid for pid in processes_of(host) if host.enter("cat", f"/proc/{pid}/comm").stdout != "nodeagent-sentr\n"]
    host.enter("kill", f"-{signal.SIGSTOP.value}", *old)
    assert call(host, other).strip().endswith(REFUSED)
    host.wait_for(lambda: "unaccepted_ended" in host.messages("nodeagent"), "the sentry's line")
    host.wait_for(lambda: not set(old) & set(processes_of(host)), "nobody of them", 120)
    wait_meshed(host)
    assert call(host, other) == f"from {other.name}\n"


def test_a_file_that_no_supervisor_starts_with_keeps_no_caller_waiting(whole: Mesh, host: Host) -> None:
    """It crashes, and systemd gives it up: who calls meanwhile is reset in time; its sentry ends once systemd keeps no listener.

    Mended, it starts by what `status` says, where a start alone is refused.
    """
    other, config, before = whole.other(host), host.path("/etc/nodeagent/nodeagent.toml"), sentries_of(host)
    good = config.read_text()
    config.write_text(f"nonsense\n{good}")
    try:
        host.enter("systemctl", "kill", "--kill-who=main", "--signal=KILL", "nodeagent")
        while host.show("nodeagent", "ActiveState") != "failed":
            assert call(host, other, seconds=5).strip().endswith(REFUSED)
            host.enter("systemctl", "reset-failed", "shop")  # else it has been started too often, and says what it said before
        host.wait_for(lambda: processes_of(host) == [], "nobody", 60)
    finally:
        config.write_text(good)
        refused = host.enter("systemctl", "start", "nodeagent")
        said = host.run("nodeagent status", check=False)
        host.run(cure := "systemctl reset-failed nodeagent && systemctl start nodeagent")
    assert (refused.returncode, said.returncode, said.stderr.strip().endswith(f"; then: {cure}")) == (1, 3, True), said.stderr
    wait_meshed(host)
    host.wait_for(lambda: len(sentries_of(host)) == 1, "a sentry")
    assert sentries_of(host) != before
    assert call(host, other) == f"from {other.name}\n"


def test_a_reload_that_is_refused_is_shown_by_systemd(host: Host) -> None:
    """Which is told that it was asked for, and no more; until one is not refused."""
    config = host.path("/etc/nodeagent/nodeagent.toml")
    good = config.read_text()
    config.write_text(f"nonsense\n{good}")
    try:
        assert host.enter("systemctl", "reload", "nodeagent").returncode == 0
        host.wait_for(lambda: host.show("nodeagent", "StatusText").startswith("reload refused, all goes on as before: "), "the refusal")
    finally:
        config.write_text(good)
    host.enter("systemctl", "reload", "nodeagent")
    host.wait_for(lambda: host.show("nodeagent", "StatusText") == "2 workers, interception active", "the next program")


def sentries_of(host: Host) -> list[str]:
    """The sentries among the agent's processes."""
    return [pid for pid in processes_of(host) if host.enter("cat", f"/proc/{pid}/comm").stdout == "nodeagent-sentr\n"]


def test_networkd_leaves_the_way_back_alone(whole: Mesh, host: Host) -> None:
    """It deletes rules and routes of other programs when it starts, by its default; not ours, so no call is lost."""
    rules = host.run("ip rule; ip -6 rule; ip route show table 133; ip -6 route show table 133").stdout
    assert rules.count("lookup 133") == 2
    host.run("ip rule add fwmark 0x77 lookup 77 pref 77")  # a program that does not know
    host.enter("systemctl", "restart", "systemd-networkd")
    if host.release == "trixie":  # that of Debian 12 waits for a reason to configure its links anew
        host.wait_for(lambda: "lookup 77" not in host.run("ip rule").stdout, "networkd's cleaning")
    host.run("ip rule del pref 77", check=False)
    assert host.run("ip rule; ip -6 rule; ip route show table 133; ip -6 route show table 133").stdout == rules
    host.wait_for(lambda: host.address in host.run("ip addr").stdout, "the address")
    for caller in whole.hosts:
        assert call(caller, whole.other(caller)).startswith("from ")


def test_what_was_open_before_the_agent_is_left_alone_and_listed(whole: Mesh) -> None:
    """At both ends, by service and unit, until it ends; what the agent carries is not among it."""
    caller, callee = whole.hosts
    for host in whole.hosts:
        host.enter("systemctl", "stop", "nodeagent", "nodeagent-intercept")
    start_download(caller, callee)
    for host in whole.hosts:
        host.enter("systemctl", "start", "nodeagent")
        wait_meshed(host)
    reached = _size(caller)
    caller.wait_for(lambda: _size(caller) > reached, "more bytes")
    assert call(callee, caller).startswith("from ")
    assert _before(caller) == [("outbound", "nginx", "shop.service", f"{callee.address}:80")]
    assert [row[:3] for row in _before(callee)] == [("inbound", "nginx", "nginx.service")]
    caller.enter("systemctl", "stop", "shop")
    for host in whole.hosts:
        host.wait_for(lambda host=host: not _before(host), "an empty list")
    start_download(caller, callee)
    assert [_before(host) for host in whole.hosts] == [[], []]


def _before(host: Host) -> list[tuple[str, ...]]:
    found = json.loads(host.run("nodeagent connections --before -o json").stdout)
    assert found["apiVersion"] == "nodeagent/v1"
    return [(row["direction"], row["service"], row["unit"], row["there"]) for row in found["connections"]]
