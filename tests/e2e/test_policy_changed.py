"""Deny means now: a change of policy ends the connections that it denies, at both ends, and leaves all others alone."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import heard, say
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB, CART = 8080, 7000
MANY = 40
OURS, THEIRS = "a change of policy ended it", "the agent at the other end ended it"
SHOP, TILL, HERE = ("shop", "web"), ("till", "web"), ("till", "cart")
ALL = {SHOP: "allow", TILL: "allow", HERE: "allow"}


class Mesh(NamedTuple):
    """`web` on host2; `shop`, `till` and `cart` on host1."""

    lab: Lab
    shop: Unit
    till: Unit

    def open(self, unit: Unit, host: str, port: int) -> socket.socket:
        """A connection that has carried something."""
        sock = unit.connect(self.lab.host(host).ipv4, port)
        assert say(sock, "hello") == "app:hello"
        return sock


@pytest.fixture
def mesh(lab: Lab) -> Iterator[Mesh]:
    """All three pairs are allowed."""
    with (
        App(lab, "host2", "web", WEB), App(lab, "host1", "cart", CART),
        Unit(lab, "host1", "shop") as shop, Unit(lab, "host1", "till") as till,
    ):  # fmt: skip
        set_intentions(lab, ALL)
        yield Mesh(lab, shop, till)


@pytest.mark.parametrize("change", [{SHOP: "deny"}, {}, {("*", "*"): "deny"}])
def test_open_connections_end_with_their_intention(mesh: Mesh, wire: Wire, canary: str, change: dict[tuple[str, str], str]) -> None:
    """Denied by name, by nothing any more, or by a wildcard: reset at once, on the same host too, with the reason in the log."""
    with mesh.open(mesh.shop, "host2", WEB) as shop, mesh.open(mesh.till, "host1", CART) as here:
        assert say(shop, canary) == f"app:{canary}"
        known = {host: len(look.log_lines(mesh.lab, host)) for host in ("host1", "host2")}
        set_intentions(mesh.lab, change)
        assert heard(shop) == "reset"
        assert heard(here) == "reset"
        for host, count in (("host1", 2), ("host2", 1)):
            eventually(lambda at=host, n=count: len(look.log_lines(mesh.lab, at)) >= known[at] + n, look.WITHIN_S, "records")
            for row in look.log_lines(mesh.lab, host)[known[host] :]:
                assert (row["reason"], row["side"]) == ("policy_changed", "mesh")
                assert OURS in row["error"] or THEIRS in row["error"]
    wire.assert_never_in_clear(canary)


def test_what_is_allowed_still_is_left_alone(mesh: Mesh) -> None:
    """By the same or by another intention, whatever else changes."""
    with mesh.open(mesh.shop, "host2", WEB) as shop, mesh.open(mesh.till, "host2", WEB) as till:
        for change in (
            {TILL: "allow"},
            {TILL: "allow", SHOP: "deny", ("*", "web"): "deny"},
            {("*", "web"): "allow", SHOP: "deny"},
            {("till", "*"): "allow"},
        ):
            set_intentions(mesh.lab, change)
            assert say(till, "still here") == "app:still here"
        assert heard(shop) == "reset"


def test_many_are_cut_one_after_another(mesh: Mesh) -> None:
    """All of them, within the grace and a little, by the callee's agent, and both logs say why; the neighbour's stay."""
    with ExitStack() as stack:
        shops = [stack.enter_context(mesh.open(mesh.shop, "host2", WEB)) for _ in range(MANY)]
        tills = [stack.enter_context(mesh.open(mesh.till, "host2", WEB)) for _ in range(MANY)]
        known = {host: len(ended(mesh.lab, host)) for host in ("host1", "host2")}
        set_intentions(mesh.lab, {TILL: "allow"})
        assert {heard(sock) for sock in shops} == {"reset"}
        assert {say(sock, "still here") for sock in tills} == {"app:still here"}
        said = {host: ended(mesh.lab, host, known[host] + MANY)[known[host] :] for host in known}
        assert {row["reason"] for rows in said.values() for row in rows} == {"policy_changed"}
        # The callee's agent ends them; the caller's only what that is late with, which a busy machine may make a few.
        assert sum(OURS in row["error"] for row in said["host2"]) > MANY / 2
        assert sum(THEIRS in row["error"] for row in said["host1"]) > MANY / 2


def test_what_the_callees_agent_does_not_end_the_callers_does(mesh: Mesh) -> None:
    """It observes, so it lets everything pass; the caller's host enforces, when the grace is over. Both say who it was."""
    assert mesh.lab.exec("host2", "nodeagent", "enforce", "observe").returncode == 0
    with mesh.open(mesh.shop, "host2", WEB) as shop:
        known = {host: len(ended(mesh.lab, host)) for host in ("host1", "host2")}
        set_intentions(mesh.lab, {})
        assert heard(shop) == "reset"
        for host, whose in (("host1", OURS), ("host2", THEIRS)):
            (row,) = ended(mesh.lab, host, known[host] + 1)[known[host] :]
            assert (row["reason"], whose in row["error"]) == ("policy_changed", True)
    assert mesh.lab.exec("host2", "nodeagent", "enforce", "--reset", "--yes").returncode == 0


def ended(lab: Lab, host: str, count: int = 0) -> list[dict[str, Any]]:
    """The log's lines of shop's ended connections, once there are `count`."""
    eventually(lambda: len(look.with_facts(lab, host, source="shop")) >= count, look.WITHIN_S, f"{count} lines on {host}")
    return look.with_facts(lab, host, source="shop")


def test_a_service_that_leaves_the_catalog_takes_no_connection_with_it(mesh: Mesh) -> None:
    """A catalog can be wrong about that; its word on intentions stands."""
    with mesh.open(mesh.shop, "host2", WEB) as shop:
        mesh.lab.catalog("PUT", "/v1/agent/service/deregister/web", token=mesh.lab.node_token("host2"))
        eventually(lambda: not _registered(mesh.lab), look.WITHIN_S, "web is gone everywhere")
        assert say(shop, "still here") == "app:still here"
        set_intentions(mesh.lab, {})
        assert heard(shop) == "reset"


def _registered(lab: Lab) -> bool:
    parts = [part for host in ("host1", "host2") for part in look.ask(lab, host, "services")["services"]]
    return any(part["instances"] for part in parts if part["name"] == "web")
