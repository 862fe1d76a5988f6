"""What an operator may ask for besides: services protected on loopback, and ports refused at which nobody is registered."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.callers import call
from tests.e2e.support.echo import Echo
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

GUARDED, OPEN, FREE = 8080, 8081, 9999
LOOPBACK = ("127.0.0.1", "::1")
ENFORCE = '[service.guarded]\nloopback = "enforce"'


class Mesh(NamedTuple):
    """On host1 `guarded`, which `shop` may call, and `open`; on both hosts something at a port that nobody registered."""

    lab: Lab
    guarded: Echo
    free: Echo
    """Of host2."""
    shop: Unit
    thief: Unit
    nobody: Unit
    peer: Unit
    """On host2, in no unit."""


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Iterator[Mesh]:
    """host1 enforces and refuses; host2 is as everywhere."""
    edit_config(lab, "host1", {"[intercept]": '[intercept]\nunregistered = "refuse"'}, added=ENFORCE)
    restart(lab, "host1")
    lab.register("host1", "guarded", GUARDED)
    lab.register("host1", "open", OPEN)
    look.allow(lab, "shop", "guarded")
    with ExitStack() as stack:
        units = [Unit(lab, *who) for who in (("host1", "shop"), ("host1", "thief"), ("host1",), ("host2",))]
        shop, thief, nobody, peer = (stack.enter_context(unit) for unit in units)
        apps = [
            stack.enter_context(Echo(stack.enter_context(Unit(lab, host, unit)).listen("::", port)))
            for host, unit, port in (
                ("host1", "guarded", GUARDED), ("host1", "open", OPEN), ("host1", "free", FREE), ("host2", "free", FREE),
            )
        ]  # fmt: skip
        yield Mesh(lab, apps[0], apps[3], shop, thief, nobody, peer)


def answers(mesh: Mesh, unit: Unit, addresses: tuple[str, str], port: int, line: str) -> set[str]:
    """What one unit is answered there, by IPv4 and IPv6."""
    return {call(unit, address, port, line) for address in addresses}


def addresses(lab: Lab, host: str) -> tuple[str, str]:
    """Of a host, IPv4 and IPv6."""
    return lab.host(host).ipv4, lab.host(host).ipv6


def test_a_permitted_call_by_way_of_loopback_is_served_once(mesh: Mesh, canary: str) -> None:
    """From the agent, on the address that was dialled; the agent's own connection is not captured again."""
    accepted = mesh.guarded.accepted
    assert answers(mesh, mesh.shop, LOOPBACK, GUARDED, canary) == {canary}
    rows = look.closed(mesh.lab, "host1", 2, destination="guarded", source="shop", path="local", reason="ok")
    assert {f"127.0.0.1:{GUARDED}", f"[::1]:{GUARDED}"} == {row["upstream"] for row in rows}
    assert mesh.guarded.accepted == accepted + 2


@pytest.mark.parametrize(("caller", "status"), [("shop", 0), ("thief", 1)])
def test_why_knows_loopback(mesh: Mesh, caller: str, status: int) -> None:
    """As the data path does."""
    for address in (f"127.0.0.1:{GUARDED}", f"[::1]:{GUARDED}"):
        done = mesh.lab.exec("host1", "nodeagent", "why", "--from", caller, "--to", "guarded", "--address", address)
        assert (done.returncode, f"{address} is instance" in done.stdout) == (status, True), done.stdout + done.stderr


@pytest.mark.parametrize(("caller", "reason"), [("thief", "denied"), ("nobody", "unidentified")])
def test_policy_holds_on_loopback(mesh: Mesh, canary: str, caller: str, reason: str) -> None:
    """As at any other address of the host; the application never hears of it."""
    accepted = mesh.guarded.accepted
    assert answers(mesh, getattr(mesh, caller), LOOPBACK, GUARDED, canary) == {"reset"}
    assert answers(mesh, getattr(mesh, caller), ("127.9.9.9", "::ffff:127.0.0.1"), GUARDED, canary) == {"reset"}
    look.closed(mesh.lab, "host1", 4, destination="guarded", reason=reason)
    assert mesh.guarded.accepted == accepted


def test_the_rest_of_loopback_is_left_alone(mesh: Mesh, canary: str) -> None:
    """Services that do not say so, unregistered ports, and the agent's own."""
    known = len(look.log_lines(mesh.lab, "host1"))
    for port in (OPEN, FREE):
        assert answers(mesh, mesh.nobody, LOOPBACK, port, canary) == {canary}
    mesh.nobody.connect("127.0.0.1", limits.METRICS_PORT)
    assert answers(mesh, mesh.nobody, LOOPBACK, GUARDED, canary) == {"reset"}
    eventually(lambda: len(look.log_lines(mesh.lab, "host1")) >= known + 2, look.WITHIN_S, "records")
    assert {"guarded"} == {row["destination"] for row in look.log_lines(mesh.lab, "host1")[known:]}


def test_an_unregistered_port_of_another_host_is_refused(mesh: Mesh, canary: str) -> None:
    """To known and unknown callers alike; nothing arrives there."""
    accepted = mesh.free.accepted
    for caller in (mesh.shop, mesh.nobody):
        assert answers(mesh, caller, addresses(mesh.lab, "host2"), FREE, canary) == {"reset"}
    rows = look.closed(mesh.lab, "host1", 4, reason="unregistered")
    assert {"none"} == {row["path"] for row in rows}
    assert mesh.free.accepted == accepted
    for row in rows:
        steps = look.ask(mesh.lab, "host1", "why", row["id"])["steps"]
        assert [step["what"] for step in steps[-4:]] == ["capture", "destination", "way", "outcome"]
        assert (steps[-1]["verdict"], "unregistered" in steps[-2]["text"]) == ("refused", True)


def test_refused_is_what_is_called_not_what_comes(mesh: Mesh, canary: str) -> None:
    """At a host's own unregistered ports nothing is captured: it is open to other hosts and to local callers as before."""
    known = len(look.log_lines(mesh.lab, "host1"))
    for caller in (mesh.peer, mesh.nobody, mesh.shop):
        assert answers(mesh, caller, addresses(mesh.lab, "host1"), FREE, canary) == {canary}
    assert answers(mesh, mesh.nobody, addresses(mesh.lab, "host2"), FREE, canary) == {"reset"}, "the control"
    eventually(lambda: len(look.log_lines(mesh.lab, "host1")) >= known + 2, look.WITHIN_S, "records")
    assert {"unregistered"} == {row["reason"] for row in look.log_lines(mesh.lab, "host1")[known:]}


def test_without_the_agent_an_enforced_service_is_closed_on_loopback_too(mesh: Mesh, canary: str) -> None:
    """And only such a one. The agent that comes back opens it to whom it may."""
    mesh.lab.kill_agent("host1")
    assert answers(mesh, mesh.shop, LOOPBACK, OPEN, canary) == {canary}
    assert answers(mesh, mesh.shop, LOOPBACK, GUARDED, canary) <= {"refused", "reset"}
    mesh.lab.start_agent("host1")
    assert answers(mesh, mesh.shop, LOOPBACK, GUARDED, canary) == {canary}


def test_a_service_is_open_on_loopback_again_when_it_says_so(mesh: Mesh, canary: str) -> None:
    """As is the default; at the host's other addresses policy holds."""
    edit_config(mesh.lab, "host1", {'loopback = "enforce"': 'loopback = "open"'})
    restart(mesh.lab, "host1")
    assert answers(mesh, mesh.nobody, LOOPBACK, GUARDED, canary) == {canary}
    assert answers(mesh, mesh.nobody, addresses(mesh.lab, "host1"), GUARDED, canary) == {"reset"}
