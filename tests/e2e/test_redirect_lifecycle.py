"""Apply, verify, roll back, remove with nftables: the kernel is as planned, or as it was. See also test_redirect_contract."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from redirect import kernel
from redirect.cgroup import element_of, read_mount
from redirect.errors import RedirectError
from redirect.libnftables import Nft
from redirect.nft import elements_in, parse_table
from redirect.plan import plan
from redirect.settings import ReturnPath
from redirect.tables import swap_back, try_swap
from tests.e2e.netns import (
    DEADLINE_S,
    WEB,
    Host,
    Workload,
    apply,
    ask,
    capture,
    record_path,
    remove,
    settings_for,
    start_agent,
    state_of,
)
from tests.e2e.support.elements import find_drift
from tests.support.eventually import eventually

UNIT = "system.slice/web.service"
TWIN = "table inet nodeagent_twin_4711 { flags dormant; }"


def verify(host: Host) -> tuple[str, ...]:
    return host.run(kernel.verify, settings_for(host))


def test_what_was_there_already_stays(host: Host) -> None:
    """A policy rule and a route that are just as ours but were there before are not removed."""
    path = ReturnPath()
    host.shell("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "src", "127.0.0.1", "table", str(path.table))
    host.shell("ip", "rule", "add", "fwmark", hex(path.mark), "pref", str(path.preference), "lookup", str(path.table))
    before = state_of(host)
    apply(host)
    apply(host, exclude_ports=(7000,))
    remove(host, now=True)
    assert state_of(host) == before


@pytest.mark.parametrize("version", [4, 6])
def test_ports_of_ended_connections_serve_again_after_a_second(hosts: tuple[Host, Host], version: int) -> None:
    """The kernel's default keeps them for sixty; here a host has two ports and makes six connections."""
    host, peer = hosts
    address = peer.ip4 if version == 4 else peer.ip6
    peer.listen("app", address, WEB)
    host.shell("sysctl", "-w", "net.ipv4.ip_local_port_range=40000 40001")
    apply(host)

    def is_answered() -> bool:
        with suppress(OSError), host.connect(address, WEB) as connection:
            return ask(connection) == "app:hello"
        return False

    for _ in range(6):
        eventually(is_answered, DEADLINE_S, "a port serves again")


def test_other_tables_full_of_routes_cost_nothing(host: Host) -> None:
    """The kernel picks our table's routes: comparing all of a router's would stop the supervisor's beat."""
    apply(host)
    before = cpu_of(host, verify)
    batch = "".join(f"route add 198.18.{number // 250}.{number % 250} dev lo table 200\n" for number in range(10_000))
    subprocess.run(host.command("ip", "-batch", "-"), input=batch, text=True, check=True)
    assert cpu_of(host, verify) < before + 0.2


def cpu_of(host: Host, act: Callable[[Host], object]) -> float:
    """CPU seconds of this process for doing it, the best of three."""
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        act(host)
        seconds.append(time.process_time() - begun)
    return min(seconds)


def shadow(host: Host) -> None:
    """A policy rule of another program that takes our mark: apply cannot help that, and sees it when it reads back."""
    host.shell("ip", "rule", "add", "fwmark", "0x5b/0xff", "pref", "100", "lookup", "200")


def test_what_reads_back_differently_is_rolled_back(host: Host) -> None:
    """Everything was installed by then, and all of it is gone again; the message says why."""
    shadow(host)
    before = state_of(host)
    with pytest.raises(RedirectError, match=r"all was put back: .* another program at preference 100"):
        apply(host)
    assert state_of(host) == before
    assert not record_path(host).exists()


def test_a_change_that_reads_back_differently_leaves_the_rules_of_before(hosts: tuple[Host, Host]) -> None:
    """Rolling back means the rules and elements that were installed, not none."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    shadow(host)
    before, record = state_of(host), record_path(host).read_text()
    with pytest.raises(RedirectError, match="all was put back"):
        apply(host, exclude_ports=(7001,), fail="open", return_path=ReturnPath(mark=0x5B, table=134, preference=1340))
    assert state_of(host) == before
    assert record_path(host).read_text() == record
    assert ask(host.connect(peer.ip4, WEB)) == "agent:hello"


def older_table(host: Host) -> str:
    """A table in which no set is as planned, each with elements: in ranges, with a time, of cgroups, with a value."""
    return f"""table inet nodeagent {{
        set mesh4 {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/8, 192.0.2.1 }}; }}
        set alive {{ type inet_proto; flags timeout; timeout 1h; elements = {{ tcp timeout 2h }}; }}
        set agents {{ type cgroupsv2; size 100; elements = {{ {element(host, "nodeagent.service")} }}; }}
        map units {{ type cgroupsv2 : mark; size 100; elements = {{ {element(host, UNIT)} : 0x5a000001 }}; }}
        set gone {{ type ipv4_addr . inet_service; elements = {{ 192.0.2.1 . 80 }}; }}
        chain out {{ type filter hook output priority 5; ip daddr @mesh4 accept; }}
    }}"""


def element(host: Host, unit: str) -> str:
    return str(element_of(read_mount(), host.path_of(unit)))


def test_sets_that_were_made_anew_get_their_elements_back(host: Host) -> None:
    """Rolled back is what was captured, and who was who, not only the names of the sets."""
    host.shell("nft", older_table(host))
    shadow(host)
    before = state_of(host)
    assert "192.0.2.1" in before["rules"]
    with pytest.raises(RedirectError, match="all was put back"):
        apply(host)
    assert state_of(host) == before
    assert "expires 1h59m" in host.shell("nft", "list", "set", "inet", "nodeagent", "alive")


@pytest.mark.parametrize(("is_early", "kept"), [(True, {"mesh4", "agents"}), (False, {"mesh4"})])
def test_a_cgroup_that_ended_does_not_cost_the_addresses(host: Host, *, is_early: bool, kept: set[str]) -> None:
    """Nft cannot name it any more. If it ends while we change the rules, its neighbours have to be added by their owner."""
    host.shell("nft", older_table(host))
    cgroup = Path(read_mount(), host.path_of(UNIT))

    def there_and_back() -> None:
        with Nft() as nft:
            swap = try_swap(nft, plan(settings_for(host)).main)
            assert swap
            nft.run(swap.forward)
            if not is_early:
                cgroup.rmdir()
            swap_back(nft, [swap])

    if is_early:
        cgroup.rmdir()
    host.run(there_and_back)
    listed = parse_table(host.shell("nft", "list", "table", "inet", "nodeagent"))
    assert {name for name in ("mesh4", "agents") if elements_in(listed.bodies[f"set {name}"])} == kept
    assert elements_in(listed.bodies["map units"]) == frozenset()


def test_a_failure_in_the_middle_leaves_nothing_behind(host: Host) -> None:
    """Here the sysctl cannot be written, after policy rules and routes are in place."""
    before = state_of(host)
    program = f"from redirect import kernel, settings; kernel.apply(settings.{settings_for(host)!r}, record_path=__import__('pathlib').Path({str(record_path(host))!r}))"
    program = program.replace("return_path=ReturnPath", "return_path=settings.ReturnPath")
    read_only = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    command = host.command("unshare", "-m", "sh", "-c", read_only, "sh", sys.executable, "-c", program)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "RedirectError: net.ipv4.tcp_fwmark_accept cannot be set to 1" in done.stderr
    assert state_of(host) == before
    assert not record_path(host).exists()


def test_remove_says_that_an_agent_still_runs(host: Host) -> None:
    """It would put the rules back, and its peers may still call through it; unless it says itself that neither is so."""
    before = state_of(host)
    apply(host)
    tunnel = host.listen("tunnel", host.ip4, 15008)
    assert "stop it first" in remove(host).left[0]
    assert "1330" in state_of(host)["policy"]
    tunnel.close()
    assert remove(host).left == ()
    assert state_of(host) == before
    apply(host)
    host.listen("tunnel", host.ip4, 15008)
    assert remove(host, is_agent_idle=True).left == ()
    assert state_of(host) == before


def test_elements_survive_a_change_of_rules(hosts: tuple[Host, Host]) -> None:
    """Nothing has to be told again, and nothing is emptied."""
    host, peer = hosts
    agent = start_agent(host)
    apply(host)
    capture(host, agent, peer)
    host.run(agent.elements.set_units, {host.path_of("system.slice/web.service"): 0x5A000001})
    assert apply(host, exclude_ports=(7000,)).emptied == ()
    assert host.run(find_drift, agent.elements) == ()
    assert Workload(host, "system.slice/web.service").ask(peer.ip4, WEB) == "agent:hello"
    assert agent.learned(4).mark == 0x5A000001


def test_tables_of_an_older_version_are_replaced_whole(host: Host) -> None:
    """Chains and sets that the plan does not know go; sets that changed are made anew, and the report names them."""
    old = """table inet nodeagent {
        set mesh4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
        set local_ports { type inet_service; elements = { 80 }; }
        set gone { type ipv4_addr; }
        chain out { type filter hook output priority 5; jump old; }
        chain old { ip daddr @gone accept; ip daddr @mesh4 accept; }
    }"""
    host.shell("nft", old)
    report = apply(host)
    assert "set mesh4" in report.emptied
    assert "set local_ports" not in report.emptied
    assert verify(host) == ()
    assert "80" in host.shell("nft", "list", "set", "inet", "nodeagent", "local_ports")


def test_another_return_path_takes_the_place_of_the_old_one(host: Host) -> None:
    """Marks and tables come from the settings: what an earlier apply added for others goes."""
    before = state_of(host)
    apply(host)
    apply(host, return_path=ReturnPath(mark=0x5C, table=134, preference=1340))
    assert "1330" not in state_of(host)["policy"]
    assert "table 133" not in state_of(host)["routes"]
    assert "fwmark 0x5c lookup 134" in state_of(host)["policy"]
    remove(host)
    assert state_of(host) == before


def test_a_lost_record_is_no_obstacle(host: Host) -> None:
    """Without it, what has our very form is taken for ours, and the sysctl's default for its value before."""
    before = state_of(host)
    apply(host)
    record_path(host).write_text("no json", encoding="utf-8")
    apply(host, exclude_ports=(7000,))
    record_path(host).unlink()
    remove(host)
    assert state_of(host) == before


def test_a_record_of_an_older_version_is_understood(host: Host) -> None:
    """It knew one sysctl: the others are recorded by the next apply, and all are restored."""
    others = ("net.ipv4.fwmark_reflect=0", "net.ipv6.fwmark_reflect=0", "net.ipv4.tcp_tw_reuse=0")
    host.shell("sysctl", "-w", *others)
    before = state_of(host)
    apply(host)
    host.shell("sysctl", "-w", *others)
    record = json.loads(record_path(host).read_text())
    older = {name: value for name, value in record.items() if name != "sysctls"}
    record_path(host).write_text(json.dumps(older | {"version": 1, "fwmark_accept": "0"}))
    assert apply(host).changes == tuple(other.replace("=", ": ") + " -> 1" for other in others)
    remove(host)
    assert state_of(host) == before


def test_a_twin_that_a_killed_process_left_is_removed(host: Host) -> None:
    """It is dormant and harms nobody; but nothing of ours stays."""
    apply(host)
    host.shell("nft", TWIN)
    remove(host, now=True)
    assert host.shell("nft", "list", "ruleset") == ""


def test_two_at_once_do_not_disturb_each_other(host: Host) -> None:
    """The supervisor repairs while an operator applies."""
    running = [host.threads.submit(kernel.apply, settings_for(host), record_path=record_path(host)) for _ in range(2)]
    assert sum(bool(future.result().changes) for future in running) == 1
    assert verify(host) == ()


def test_preview_is_a_diff_and_changes_nothing(host: Host) -> None:
    """All is new at first, nothing after apply, and one line for one changed setting."""
    before = state_of(host)
    lines = host.run(kernel.preview, settings_for(host))
    assert "+table inet nodeagent {" in lines
    assert "+net.ipv4.tcp_fwmark_accept = 1" in lines
    assert lines[-2:] == ("-net.ipv4.tcp_tw_reuse = 2", "+net.ipv4.tcp_tw_reuse = 1")
    assert state_of(host) == before
    apply(host)
    installed = state_of(host)
    assert host.run(kernel.preview, settings_for(host)) == ()
    lines = host.run(kernel.preview, settings_for(host, fail="open"))
    assert any(line.startswith("-") and "@told_closed" in line for line in lines)
    assert any(line.startswith("+") and "@told_open" in line for line in lines)
    assert state_of(host) == installed
