"""Interception through the life of a real agent: stopped, killed, frozen, tampered with; and what it never touches."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab import cgroup
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, marks_in_kernel
from tests.e2e.support.echo import Echo, speaks
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB, HALF, SSH, FREE = 8080, 8088, 22, 9999
AT_ONCE_S = 1.0  # a refusal takes a millisecond
WITHIN_S = 10 * limits.DRIFT_S
REFUSED = {"reset", "refused"}
NEVER = (22, 53, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600)


class Mesh(NamedTuple):
    """`web` on host2 and `back` on host1, which `shop` may call; something like sshd on both."""

    lab: Lab
    web: App
    back: App

    def call(self, unit: Unit, host: str, line: str) -> set[str]:
        """What calls over both families to host's service were answered; each at once."""
        place = self.lab.host(host)
        began = time.monotonic()
        answers = {call(unit, address, WEB, line) for address in (place.ipv4, place.ipv6)}
        assert time.monotonic() - began < 2 * AT_ONCE_S
        return answers


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Iterator[Mesh]:
    """For the whole module."""
    with ExitStack() as stack:
        web = stack.enter_context(App(lab, "host2", "web", WEB))
        back = stack.enter_context(App(lab, "host1", "back", WEB))
        for host in ("host1", "host2"):
            sshd = stack.enter_context(Unit(lab, host, "sshd"))
            stack.enter_context(Echo(sshd.listen("::", SSH)))
        for service in ("web", "back"):
            look.allow(lab, "shop", service)
        yield Mesh(lab, web, back)


class Callers:
    """Every kind of caller around host1. Ends with its `with`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._stack = mesh, ExitStack()
        self.shop, self.nobody, self.peer, self.stranger = (
            self._stack.enter_context(Unit(mesh.lab, *who))
            for who in (("host1", "shop"), ("host1",), ("host2", "shop"), ("hub",))
        )
        self._sessions = [
            self.nobody.connect(mesh.lab.host("host2").ipv4, SSH), self.stranger.connect(mesh.lab.host("host1").ipv4, SSH)
        ]  # fmt: skip

    def __enter__(self) -> "Callers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def assert_refused(self, line: str) -> None:
        """Nobody gets through host1, in or out, in any way; ssh, old and new, goes on."""
        assert self._mesh.call(self.shop, "host2", line) <= REFUSED
        assert self._mesh.call(self.nobody, "host2", line) <= REFUSED
        assert self._mesh.call(self.shop, "host1", line) <= REFUSED, "by a local caller"
        assert self._mesh.call(self.peer, "host1", line) <= REFUSED
        assert self._mesh.call(self.stranger, "host1", line) <= REFUSED
        lab = self._mesh.lab
        new = [self.shop.connect(lab.host("host2").ipv6, SSH), self.peer.connect(lab.host("host1").ipv4, SSH)]
        assert all(speaks(session) for session in (*self._sessions, *new))


def is_beating(lab: Lab, host: str) -> bool:
    """Whether the kernel's dead-man switch is held."""
    listed = lab.exec(host, "nft", "list", "set", "inet", "nodeagent", "alive")
    assert listed.returncode == 0, listed.stderr
    return "elements" in listed.stdout


@pytest.mark.parametrize("end", ["stop_agent", "kill_agent"])
def test_without_its_agent_a_host_is_closed_and_ssh_is_not(mesh: Mesh, wire: Wire, canary: str, end: str) -> None:
    """From the first moment, and after the switch has fallen; nothing is ever sent in clear instead."""
    lab, heard = mesh.lab, len(mesh.web.heard)
    with Callers(mesh) as callers:
        getattr(lab, end)("host1")
        callers.assert_refused(canary)
        eventually(lambda: not is_beating(lab, "host1"), WITHIN_S, "the switch has fallen")
        callers.assert_refused(canary)
        assert len(mesh.web.heard) == heard
        lab.start_agent("host1")
        eventually(
            lambda: mesh.call(callers.shop, "host2", canary) == {f"app:{canary}"}, look.WITHIN_S, "it works again"
        )
        assert mesh.call(callers.peer, "host1", canary) == {f"app:{canary}"}
    wire.assert_never_in_clear(canary)


def test_a_frozen_agent_is_as_good_as_dead(mesh: Mesh, wire: Wire, canary: str) -> None:
    """It neither answers nor ends: when it has not beaten for five seconds, callers are refused and wait no longer."""
    lab = mesh.lab
    freeze = cgroup.mount() / lab.host("host1").unit_cgroup("nodeagent") / "cgroup.freeze"
    with Callers(mesh) as callers:
        freeze.write_text("1")
        began = time.monotonic()
        try:
            eventually(lambda: not is_beating(lab, "host1"), WITHIN_S, "the switch has fallen")
            assert time.monotonic() - began < 2 * limits.ALIVE_S
            assert mesh.call(callers.shop, "host2", canary) <= REFUSED
            assert mesh.call(callers.stranger, "host1", canary) <= REFUSED
        finally:
            freeze.write_text("0")
        eventually(lambda: is_beating(lab, "host1"), look.WITHIN_S, "it beats again")
        eventually(
            lambda: mesh.call(callers.shop, "host2", canary) == {f"app:{canary}"}, look.WITHIN_S, "it works again"
        )
    wire.assert_never_in_clear(canary)


# --- drift -----------------------------------------------------------------------------------------------------------


def delete_rule(lab: Lab, host: str, chain: str, what: str) -> None:
    """By hand, as somebody with root might."""
    listed = lab.exec(host, "nft", "-a", "list", "chain", "inet", "nodeagent", chain).stdout
    (handle,) = re.findall(rf"{what}.*# handle (\d+)", listed)
    assert lab.exec(host, "nft", "delete", "rule", "inet", "nodeagent", chain, "handle", handle).returncode == 0


def verify(lab: Lab, host: str) -> tuple[int, str]:
    """`nodeagent intercept verify`: exit status and what it says."""
    done = lab.exec(host, "nodeagent", "intercept", "verify")
    return done.returncode, done.stdout


def test_verify_names_what_was_deleted_and_the_next_start_puts_it_back(mesh: Mesh) -> None:
    """While no agent runs that would repair it at once."""
    lab = mesh.lab
    assert verify(lab, "host2") == (0, "The kernel does what the configuration says.\n")
    lab.stop_agent("host2")
    delete_rule(lab, "host2", "pre", "tproxy ip to")
    status, said = verify(lab, "host2")
    assert status == 1
    assert "chain pre" in said
    lab.start_agent("host2")
    assert verify(lab, "host2")[0] == 0


@pytest.mark.parametrize(
    ("host", "chain", "what"),
    [("host1", "out", 'goto take.*addresses from the catalog" '), ("host1", "stamp", "level 5"), ("host2", "pre", "tproxy ip to")],
)  # fmt: skip
def test_an_agent_puts_back_a_rule_that_was_deleted(mesh: Mesh, canary: str, host: str, chain: str, what: str) -> None:
    """It looks every five seconds, says so in the log and in `status`, and traffic is as before."""
    lab = mesh.lab
    known = len(look.log_lines(lab, host, "interception_repaired"))
    rules = lab.exec(host, "nft", "-a", "list", "chain", "inet", "nodeagent", chain).stdout
    handles = re.findall(rf"{what}.*# handle (\d+)", rules)
    assert lab.exec(host, "nft", "delete", "rule", "inet", "nodeagent", chain, "handle", handles[0]).returncode == 0
    eventually(lambda: len(look.log_lines(lab, host, "interception_repaired")) > known, WITHIN_S, "it was noticed")
    assert verify(lab, host)[0] == 0
    assert f"chain {chain}" in look.log_lines(lab, host, "interception_repaired")[-1]["why"]
    eventually(lambda: look.status(lab, host)["interception"]["state"] == "repaired", look.WITHIN_S, "status says so")
    with Unit(lab, "host1", "shop") as shop:
        assert mesh.call(shop, "host2", canary) == {f"app:{canary}"}


def test_emptied_stamps_cost_nobody_its_name_and_come_back(mesh: Mesh, canary: str) -> None:
    """Until then callers are found by the slower look-up."""
    lab = mesh.lab
    with Unit(lab, "host1", "shop") as shop:
        eventually(lambda: "shop" in marks_in_kernel(lab, "host1"), look.WITHIN_S, "it is stamped")
        mark = marks_in_kernel(lab, "host1")["shop"]
        assert lab.exec("host1", "nft", "flush", "map", "inet", "nodeagent", "units").returncode == 0
        assert mesh.call(shop, "host2", canary) == {f"app:{canary}"}
        eventually(lambda: marks_in_kernel(lab, "host1").get("shop") == mark, WITHIN_S, "the map is filled again")


# --- what is not captured, and what is not forgotten --------------------------------------------------------------------


def test_half_closed_connections_are_kept_in_the_kernel_s_memory(mesh: Mesh) -> None:
    """Conntrack forgets them after a minute of silence, and what their clients send then would pass the agent by.

    So the agent speaks to them often enough, whichever end has closed its half.
    """
    lab = mesh.lab
    with Unit(lab, "host2", "half") as half, Unit(lab, "host1", "shop") as shop:
        door = half.listen("::", HALF)
        lab.register("host2", "half", HALF)
        look.allow(lab, "shop", "half")
        pairs = [(shop.connect(lab.host("host2").ipv4, HALF), half.accept(door)[0]) for _ in range(2)]
        for sender, receiver in (pairs[0], pairs[1][::-1]):
            sender.shutdown(socket.SHUT_WR)
            assert receiver.recv(1) == b""
        ends = eventually(lambda: kept_ends(lab), look.WITHIN_S, "both kinds of half-closed ends are kept alive")
    memory = lab.exec("host1", "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_close_wait").stdout
    assert all(2 * float(seconds) < int(memory) for _, seconds in ends)


def kept_ends(lab: Lab) -> list[tuple[str, str]]:
    """State and seconds to the next keep-alive of the agent's half-closed ends, once there is one of each kind."""
    listed = lab.exec("host1", "ss", "-tnoH", "sport", "=", f":{limits.OUTBOUND_PORT}").stdout
    ends = re.findall(r"(CLOSE-WAIT|FIN-WAIT-2) .*timer:\(keepalive,([0-9.]+)sec,", listed)
    return ends if {state for state, _ in ends} == {"CLOSE-WAIT", "FIN-WAIT-2"} else []


@pytest.fixture
def refusing(mesh: Mesh) -> Iterator[None]:
    """host1 refuses whatever it captures and nobody registered."""
    before = (mesh.lab.host("host1").own("etc") / "nodeagent.toml").read_text()
    edit_config(mesh.lab, "host1", {"[intercept]": '[intercept]\nunregistered = "refuse"'})
    restart(mesh.lab, "host1")
    yield
    (mesh.lab.host("host1").own("etc") / "nodeagent.toml").write_text(before)
    restart(mesh.lab, "host1")


def test_some_ports_and_loopback_are_never_captured(mesh: Mesh, refusing: None, canary: str) -> None:
    """ssh, DNS, Consul's own, on a host that refuses everything else; loopback even where a service is registered."""
    lab, place = mesh.lab, mesh.lab.host("host2")
    known = len(look.log_lines(lab, "host1"))
    with ExitStack() as stack:
        other, local = (
            stack.enter_context(Unit(lab, "host2", "other")),
            stack.enter_context(Unit(lab, "host1", "local")),
        )
        nobody = stack.enter_context(Unit(lab, "host1"))
        for port in (*NEVER[1:], FREE):
            stack.enter_context(Echo(other.listen("::", port)))
        for address in ("127.0.0.1", "::1"):
            stack.enter_context(Echo(local.listen(address, WEB)))
            assert call(nobody, address, WEB, canary) == canary
        for address in (place.ipv4, place.ipv6):
            assert {port: call(nobody, address, port, canary) for port in NEVER} == dict.fromkeys(NEVER, canary)
            assert call(nobody, address, FREE, canary) == "reset", "the control: this one is captured"
    eventually(lambda: len(look.log_lines(lab, "host1")) >= known + 2, look.WITHIN_S, "records")
    assert [row["reason"] for row in look.log_lines(lab, "host1")[known:]] == ["unregistered"] * 2
