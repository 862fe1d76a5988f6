"""A lab whose rules are in iptables: the same agent, the same policy, and callers that no stamp names."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB, FREE = 8080, 9999
WITHIN_S = 10 * limits.DRIFT_S
FLUSH = "for p in iptables ip6tables; do for t in nat mangle filter; do $p-legacy -t $t -F; done; done"


class Mesh(NamedTuple):
    """`web` on host2, which `shop` on host1 may call."""

    lab: Lab
    web: App
    shop: Unit
    thief: Unit
    nobody: Unit
    stranger: Unit


@pytest.fixture(scope="module")
def mesh(make_lab: MakeLab) -> Iterator[Mesh]:
    """For the whole module."""
    lab = make_lab(backend="iptables")
    edit_config(lab, "host2", {}, added='[service.web]\nloopback = "enforce"')
    restart(lab, "host2")
    with ExitStack() as stack:
        web = stack.enter_context(App(lab, "host2", "web", WEB))
        look.allow(lab, "shop", "web")
        callers = [Unit(lab, *who) for who in (("host1", "shop"), ("host1", "thief"), ("host1",), ("hub",))]
        yield Mesh(lab, web, *(stack.enter_context(unit) for unit in callers))


def answers(mesh: Mesh, unit: Unit, line: str) -> set[str]:
    """By IPv4 and IPv6."""
    host = mesh.lab.host("host2")
    return {call(unit, address, WEB, line) for address in (host.ipv4, host.ipv6)}


def test_policy_holds_and_callers_are_known_without_a_stamp(mesh: Mesh, capture: Capture, canary: str) -> None:
    """In a tunnel, from the caller's address; everybody else is reset, and clear text from outside is, too."""
    wire = capture(mesh.lab)
    assert answers(mesh, mesh.shop, canary) == {f"app:{canary}"}
    host1 = mesh.lab.host("host1")
    assert {(canary, host1.ipv4), (canary, host1.ipv6)} <= set(mesh.web.heard)
    rows = look.closed(mesh.lab, "host1", 2, source="shop", destination="web", reason="ok")
    assert {("shop.service", "tunnel")} == {(row["unit"], row["path"]) for row in rows}
    heard = len(mesh.web.heard)
    for caller in (mesh.thief, mesh.nobody):
        assert answers(mesh, caller, canary) == {"reset"}
    assert answers(mesh, mesh.stranger, "hello") <= {"reset", "refused"}
    assert len(mesh.web.heard) == heard
    wire.assert_never_in_clear(canary)


def test_loopback_is_enforced_where_a_service_says_so(mesh: Mesh, canary: str) -> None:
    """On the host of the service."""
    with Unit(mesh.lab, "host2") as nobody:
        assert {call(nobody, address, WEB, canary) for address in ("127.0.0.1", "::1")} == {"reset"}


def test_commands_know_the_backend(mesh: Mesh) -> None:
    """As an operator asks them on the host."""
    verify = mesh.lab.exec("host1", "nodeagent", "intercept", "verify")
    assert (verify.returncode, verify.stdout.strip()) == (0, "The kernel does what the configuration says.")
    shown = mesh.lab.exec("host1", "nodeagent", "intercept", "show").stdout
    assert "-A OUTPUT -j nodeagent_out" in shown
    assert f"ipset nodeagent_mesh4: {mesh.lab.host('host2').ipv4}" in shown
    assert mesh.lab.exec("host1", "nft", "list", "tables").stdout == ""


def test_flushed_tables_are_put_back_and_nothing_goes_in_clear(mesh: Mesh, canary: str) -> None:
    """firewalls of old flush what is everybody's. Within seconds all is as before, sets included."""
    done = mesh.lab.exec("host1", "sh", "-c", FLUSH)
    assert done.returncode == 0, done.stderr
    eventually(lambda: look.status(mesh.lab, "host1")["interception"]["repairs"] > 0, WITHIN_S, "the rules are repaired")
    assert mesh.lab.exec("host1", "nodeagent", "intercept", "verify").returncode == 0
    assert answers(mesh, mesh.shop, canary) == {f"app:{canary}"}
    assert answers(mesh, mesh.thief, canary) == {"reset"}


def test_without_its_agent_a_host_is_closed(mesh: Mesh, canary: str) -> None:
    """And open again to whom it may when there is one; its own cgroup is exempt again, too."""
    mesh.lab.kill_agent("host1")
    assert answers(mesh, mesh.shop, canary) <= {"reset", "refused"}
    mesh.lab.start_agent("host1")
    assert answers(mesh, mesh.shop, canary) == {f"app:{canary}"}
    mesh.lab.kill_agent("host2")
    assert answers(mesh, mesh.stranger, "hello") <= {"reset", "refused"}
    mesh.lab.start_agent("host2")


def test_an_agent_that_was_stopped_leaves_rules_that_go(mesh: Mesh, canary: str) -> None:
    """Last in this file: afterwards host1 is without."""
    mesh.lab.stop_agent("host1")
    removed = mesh.lab.exec("host1", "nodeagent", "intercept", "remove", "--now")
    assert removed.returncode == 0, removed.stderr
    assert mesh.lab.exec("host1", "nodeagent", "intercept", "show").stdout.strip() == "Nothing is installed."
    assert answers(mesh, mesh.nobody, "hello") == {"reset"}, "the callee's agent"
