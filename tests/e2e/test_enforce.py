"""From watching to refusing while everything runs: `nodeagent enforce`, and `nodeagent why` beside it."""

import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from nodeagent.lab.status import read_status
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, heard, say
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.settings import restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, CART = 8080, 7000


class Mesh(NamedTuple):
    """`web` on host2; `shop`, whom an intention allows, `mallory`, whom none does, and somebody whom nobody knows on host1."""

    lab: Lab
    shop: Unit
    mallory: Unit
    nobody: Unit

    def call(self, unit: Unit) -> str:
        """What a new call to web is answered."""
        return call(unit, self.lab.host("host2").ipv4, WEB, "hello")

    def open(self, unit: Unit) -> socket.socket:
        """A connection to web that stays."""
        sock = unit.connect(self.lab.host("host2").ipv4, WEB)
        assert say(sock, "hello") == "app:hello"
        return sock


@pytest.fixture
def mesh(make_lab: MakeLab) -> Iterator[Mesh]:
    """Both hosts observe."""
    lab = make_lab(mode="observe")
    with (
        App(lab, "host2", "web", WEB), Unit(lab, "host1", "shop") as shop, Unit(lab, "host1", "mallory") as mallory,
        Unit(lab, "host1") as nobody,
    ):  # fmt: skip
        set_intentions(lab, {("shop", "web"): "allow"})
        yield Mesh(lab, shop, mallory, nobody)


def enforce(lab: Lab, host: str, *arguments: str) -> tuple[int, str]:
    """Exit status and output of the command on a host."""
    done = lab.exec(host, "nodeagent", "enforce", *arguments)
    return done.returncode, done.stdout + done.stderr


def switch(lab: Lab, host: str, mode: str, *more: str) -> None:
    """Switches, whoever would be refused, and waits until every worker decides by it."""
    code, told = enforce(lab, host, mode, "--yes", *more)
    assert code == 0, told
    eventually(lambda: mode_in_force(lab, host, more) == mode, look.WITHIN_S, f"{host} is {mode}")


def mode_in_force(lab: Lab, host: str, more: tuple[str, ...]) -> str:
    """As `status` says; as `services` says, for `--service NAME`."""
    answer = look.status(lab, host)
    if {worker["generation"] for worker in answer["workers"]} != {answer["catalog"]["generation"]}:
        return "behind"
    if not more:
        return str(answer["mode"])
    return str(next(part["mode"] for part in look.ask(lab, host, "services")["services"] if part["name"] == more[1]))


def refused(lab: Lab, host: str, *arguments: str) -> set[tuple[str, str, str]]:
    """Who would be: source (or `?`), destination and reason."""
    answer = look.ask(lab, host, "enforce", "--check", *arguments)
    return {(part["flow"]["source"] or "?", part["flow"]["destination"], part["reason"]) for part in answer["refused"]}


def test_a_host_is_led_from_observe_to_strict(mesh: Mesh) -> None:
    """Each step is rehearsed on what was seen, and does to old and new connections what was said; a restart keeps it."""
    lab = mesh.lab
    callers = (mesh.shop, mesh.mallory, mesh.nobody)
    assert [mesh.call(each) for each in callers] == ["app:hello"] * 3
    old = [mesh.open(each) for each in callers]
    # 1) In observe all pass; the check knows who would not.
    eventually(lambda: ("mallory", "web", "denied") in refused(lab, "host1"), look.WITHIN_S, "the flows")
    assert refused(lab, "host1") == {("mallory", "web", "denied")}
    assert refused(lab, "host1", "strict") == {("mallory", "web", "denied"), ("?", "web", "unidentified")}
    code, told = enforce(lab, "host1")
    assert (code, "--yes" in told) == (1, True)
    assert mesh.call(mesh.mallory) == "app:hello"
    # 2) Permissive: whom no intention allows is refused, now; the others go on as they began.
    switch(lab, "host1", "permissive")
    assert heard(old[1]) == "reset"
    assert [say(sock, "still here") for sock in (old[0], old[2])] == ["app:still here"] * 2
    assert [mesh.call(each) for each in callers] == ["app:hello", "reset", "app:hello"]
    # 3) Strict: what still goes in clear ends, and nobody unknown passes.
    switch(lab, "host1", "strict")
    assert [heard(sock) for sock in (old[0], old[2])] == ["reset"] * 2
    assert [mesh.call(each) for each in callers] == ["app:hello", "reset", "reset"]
    revoked = look.closed(lab, "host1", 3, reason="policy_changed")
    assert {row["source"] for row in revoked} == {"shop", "mallory", ""}
    # 4) It holds after a restart; the file still says observe, and is one command away.
    restart(lab, "host1")
    eventually(lambda: mode_in_force(lab, "host1", ()) == "strict", look.WITHIN_S, "host1 is strict")
    assert [mesh.call(each) for each in callers] == ["app:hello", "reset", "reset"]
    assert any("the file says observe" in each for each in look.status(lab, "host1")["warnings"])
    assert enforce(lab, "host1", "--reset", "--yes")[0] == 0
    eventually(lambda: mesh.call(mesh.mallory) == "app:hello", look.WITHIN_S, "observe again")
    for sock in old:
        sock.close()


def test_the_callee_s_host_knows_who_comes_in_clear(mesh: Mesh) -> None:
    """Before web takes tunnels only: the host whose agent lets its callers out in clear is named, and one service can go first."""
    lab = mesh.lab
    assert mesh.call(mesh.shop) == "app:hello"
    eventually(lambda: refused(lab, "host2", "strict"), look.WITHIN_S, "the flows")
    code, told = enforce(lab, "host2", "strict", "--check", "--service", "web")
    assert (code, "host1 has an agent and sends in clear" in told) == (1, True)
    switch(lab, "host2", "strict", "--service", "web")
    assert mesh.call(mesh.shop) == "reset"
    switch(lab, "host1", "permissive")
    assert [host.mode for host in read_status(lab.name).hosts] == ["permissive", "observe"]
    assert mesh.call(mesh.shop) == "app:hello"
    assert "web" in enforce(lab, "host2", "--list")[1]
    # The way back begins at the callee's: a caller's host that observes sends in clear to who refuses it, and says so before.
    exposed = "1 would go in clear to hosts with an agent: refused there where that host or service is strict"
    eventually(lambda: exposed in enforce(lab, "host1", "observe", "--check")[1], look.WITHIN_S, "the flow in the tunnel")
    code, told = enforce(lab, "host1", "observe")
    assert (code, "--yes" in told, mesh.call(mesh.shop)) == (1, True, "app:hello")
    switch(lab, "host1", "observe")
    assert mesh.call(mesh.shop) == "reset"
    assert "it leaves this host in clear; the callee's agent may refuse it" in why(lab, "host1", "--from", "shop", "--to", "web")[2]
    switch(lab, "host2", "observe", "--service", "web")
    assert mesh.call(mesh.shop) == "app:hello"


def test_what_came_in_clear_before_its_host_took_tunnels_does_not_count(mesh: Mesh) -> None:
    """It is superseded, which is said; what still comes in clear beside the tunnels counts."""
    lab, in_clear = mesh.lab, {("?", "web", "plaintext_refused")}
    assert mesh.call(mesh.shop) == "app:hello"
    eventually(lambda: refused(lab, "host2", "strict") == in_clear, look.WITHIN_S, "the flow in clear")
    switch(lab, "host1", "permissive")
    assert mesh.call(mesh.shop) == "app:hello"
    told = "would be refused (1 in clear superseded: its host calls by tunnel since)"
    eventually(lambda: told in enforce(lab, "host2", "strict", "--check")[1], look.WITHIN_S, "the flow in the tunnel")
    assert refused(lab, "host2", "strict") == set()
    assert mesh.call(mesh.nobody) == "app:hello"
    eventually(lambda: refused(lab, "host2", "strict", "--since", "1h") == in_clear, look.WITHIN_S, "clear text beside tunnels")
    asked = lab.exec("host2", "nodeagent", "enforce", "strict", "-o", "json", stdin=subprocess.DEVNULL)
    answer = json.loads(asked.stdout)
    assert (asked.returncode, answer["changed"], len(answer["refused"]), answer["apiVersion"]) == (1, False, 1, "nodeagent/v1")


def why(lab: Lab, host: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, answer and screen of the command on a host."""
    done = lab.exec(host, "nodeagent", "why", *arguments)
    return done.returncode, look.ask(lab, host, "why", *arguments), done.stdout


def test_why_tells_each_step(make_lab: MakeLab) -> None:
    """Denied, allowed, by id, on the same host, for somebody unknown; what it foretells is what happens."""
    lab = make_lab()
    with App(lab, "host2", "web", WEB), App(lab, "host1", "cart", CART), Unit(lab, "host1", "shop") as shop, Unit(lab, "host1") as nobody:
        web, cart = lab.host("host2").ipv4, lab.host("host1").ipv4
        code, answer, screen = why(lab, "host1", "--from", "shop", "--to", "web")
        assert (code, answer["passes"], call(shop, web, WEB, "hello")) == (1, False, "reset")
        assert "none speaks of shop -> web: the default is deny" in screen
        set_intentions(lab, {("shop", "*"): "allow"})
        code, answer, screen = why(lab, "host1", "--from", "shop", "--to", "web")
        assert (code, answer["passes"], call(shop, web, WEB, "hello")) == (0, True, "app:hello")
        for part in (f"{web} is an address of the catalog", "on host2, with an agent", "strict, the mode of this host",
                     "shop -> * (allow), precedence 6: decides", "/svc/web", "[host2, by this host's snapshot"):  # fmt: skip
            assert part in screen
        eventually(lambda: "1 open to host2" in why(lab, "host1", "--from", "shop", "--to", "web")[2], look.WITHIN_S, "the tunnel")
        code, _, screen = why(lab, "host1", "--from", "shop", "--to", "cart")
        assert (code, call(shop, cart, CART, "hello")) == (0, "app:hello")
        assert "on this host: no wire to protect" in screen
        code, _, screen = why(lab, "host1", "--to", "web")
        assert (code, "an unidentified workload" in screen, call(nobody, web, WEB, "hello")) == (1, True, "reset")
        eventually(lambda: look.with_facts(lab, "host1", reason="unidentified"), look.WITHIN_S, "the record")
        number = look.with_facts(lab, "host1", reason="unidentified")[0]["id"]
        code, answer, screen = why(lab, "host1", number)
        assert (code, answer["connection"]["id"], "it ended: unidentified" in screen) == (1, number, True)
