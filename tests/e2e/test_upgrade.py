"""Reloads under load: nobody notices, old connections live on, and what is taken back is taken back from them, too."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from nodeagent import limits
from nodeagent.lab.errors import LabError
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, heard, say
from tests.e2e.support.certificates import accessor_of, revoke
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.e2e.support.upgrades import (
    generations,
    keep_alive,
    new_connections,
    one_connection,
    serve_http,
    supervisor,
)  # fmt: skip
from tests.e2e.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tunnels_only")

UPGRADES = int(os.environ.get("UPGRADES", "20"))
OUTLIVED = 2 * (limits.GENERATIONS - 1)
"""Reloads of both hosts in turn that a connection lives over: one more of the same host ends its generation."""
WEB, DOCS, CART = 8080, 8090, 7000
ALLOWED = {("shop", "web"): "allow", ("shop", "docs"): "allow", ("shop", "cart"): "allow"}


@pytest.fixture
def mesh(lab: Lab) -> Iterator[Lab]:
    """`web` and `docs` on host2, `cart` on host1; `shop` may call them."""
    with App(lab, "host2", "web", WEB), App(lab, "host1", "cart", CART):
        set_intentions(lab, ALLOWED)
        yield lab


@pytest.mark.timeout(120 + 60 * UPGRADES)
def test_reloads_under_load_cost_no_request_and_no_connection(mesh: Lab) -> None:
    """Both sides in turn; opaque and keep-alive connections are alive after as many reloads as leave the generation that they are in alone."""
    lab, web, here = mesh, mesh.host("host2").ipv4, mesh.host("host1").ipv4
    serve_http(lab, "host2", "docs", DOCS)
    pids = {host: supervisor(lab, host) for host in ("host1", "host2")}
    with ExitStack() as stack:
        clients = [
            stack.enter_context(client)
            for client in (
                new_connections(lab, "host1", "shop", web, WEB), new_connections(lab, "host1", "shop", here, CART),
            )
        ]  # fmt: skip
        for first in range(0, UPGRADES, OUTLIVED):
            with (
                one_connection(lab, "host1", "shop", web, WEB) as opaque,
                one_connection(lab, "host1", "shop", here, CART) as local,
                keep_alive(lab, "host1", "shop", web, DOCS) as browser,
            ):
                held = [opaque, local, browser]
                for number in range(first, min(first + OUTLIVED, UPGRADES)):
                    for client in (*clients, *held):
                        client.go_on()
                    lab.reload_agent("host1" if number % 2 else "host2")
                    for client in (*clients, *held):
                        client.go_on()
                    assert [client.wrong for client in held] == [[], [], []], number
        assert [client.wrong for client in clients] == [[], []]
    assert {host: supervisor(lab, host) for host in pids} == pids
    assert look.status(lab, "host1")["supervisor"]["generation"] == 1 + UPGRADES // 2
    lab.stop("host2", "docs")


def test_old_workers_hear_denies_and_their_connections_are_shown(mesh: Lab) -> None:
    """What a reload has left with the generation before: in `status`, and cut when an intention ends."""
    with Unit(mesh, "host1", "shop") as shop:
        far, near = (shop.connect(mesh.host(host).ipv4, port) for host, port in (("host2", WEB), ("host1", CART)))
        assert [say(far, "a"), say(near, "b")] == ["app:a", "app:b"]
        for host in ("host1", "host2"):
            mesh.reload_agent(host)
        assert [say(far, "c"), say(near, "d")] == ["app:c", "app:d"]
        wait_until(lambda: [part["connections"] for part in generations(mesh, "host1")][1:2] == [2], "two are left")
        young, old = generations(mesh, "host1")[:2]
        assert young["generation"] == old["generation"] + 1
        assert young["drain_until"] == 0 < old["drain_until"] <= time.time() + limits.DRAIN_MAX_S
        screen = mesh.exec("host1", "nodeagent", "status").stdout
        assert "2 connections left, closed in " in screen
        set_intentions(mesh, {("shop", "cart"): "allow"})
        assert heard(far) == "reset"
        assert say(near, "e") == "app:e"
        set_intentions(mesh, ALLOWED)


def test_a_fourth_generation_ends_the_first(mesh: Lab) -> None:
    """Each holds workers: the oldest closes what it carries, with the reason in the record."""
    with Unit(mesh, "host1", "shop") as shop:
        held = []
        for number in range(limits.GENERATIONS + 1):
            held.append(shop.connect(mesh.host("host1").ipv4, CART))
            assert say(held[-1], "hello") == "app:hello"
            if number < limits.GENERATIONS:
                mesh.reload_agent("host1")
        assert heard(held[0]) == "reset"
        assert [say(sock, "still") for sock in held[1:]] == ["app:still"] * limits.GENERATIONS
        look.closed(mesh, "host1", 1, reason="drained", source="shop")
        assert look.log_lines(mesh, "host1", "generation_ended")


def test_what_cannot_be_used_changes_nothing(mesh: Lab) -> None:
    """A bad file, then a reload that works; `status` says why the first did not."""
    before = look.status(mesh, "host1")["supervisor"]["generation"]
    edit_config(mesh, "host1", {'mode = "strict"': 'mode = "strikt"'})
    with pytest.raises(LabError, match=r"refused the reload: .*strikt"):
        mesh.reload_agent("host1")
    assert "reload refused" in mesh.exec("host1", "nodeagent", "status").stdout
    with Unit(mesh, "host1", "shop") as shop:
        assert call(shop, mesh.host("host2").ipv4, WEB, "hello") == "app:hello"
    edit_config(mesh, "host1", {'mode = "strikt"': 'mode = "strict"'}, added='[admin]\nwrite_group = "nobody-at-all"')
    with pytest.raises(LabError, match=r"refused the reload: .*there is no group 'nobody-at-all'"):
        mesh.reload_agent("host1")
    edit_config(mesh, "host1", {'write_group = "nobody-at-all"': 'socket = "/run/other/api.sock"'})
    with pytest.raises(LabError, match=r"refused the reload: admin\.socket: .*nodeagent lab agent --name \S+ host1 restart"):
        mesh.reload_agent("host1")
    edit_config(mesh, "host1", {'socket = "/run/other/api.sock"': ""})
    mesh.reload_agent("host1")
    assert look.status(mesh, "host1")["supervisor"]["generation"] == before + 1


def test_interception_that_is_switched_off_goes_with_its_rules_and_comes_back(mesh: Lab) -> None:
    """Nobody would beat for them, so that all would be refused; what is open goes on, and all goes with its end. Tunnels are taken."""
    here = mesh.host("host1").ipv4
    with Unit(mesh, "host1", "shop") as shop, Unit(mesh, "host2", "shop") as far:
        held = shop.connect(here, CART)
        assert say(held, "a") == "app:a"
        edit_config(mesh, "host1", {"[intercept]": "[intercept]\nenabled = false"})
        mesh.reload_agent("host1")
        assert look.status(mesh, "host1")["interception"]["state"] == "off"
        assert look.log_lines(mesh, "host1", "interception_left")
        assert "table inet nodeagent {" not in mesh.exec("host1", "nodeagent", "intercept", "show").stdout
        assert [call(shop, here, CART, "hello"), say(held, "b")] == ["app:hello", "app:b"]
        assert ("warning", "intercept.enabled is false, and what connections of before need is still installed") in firewall(mesh, "host1")
        held.close()
        wait_until(lambda: look.log_lines(mesh, "host1", "interception_changed")[-1]["change"].startswith("net."), "all is put back", 60)
        assert mesh.exec("host1", "nodeagent", "intercept", "show").stdout == "Nothing is installed.\n"
        assert ("warning", "intercept.enabled is false: nothing is captured on this host") in firewall(mesh, "host1")
        assert call(far, here, CART, "hello") == "app:hello"
        held = shop.connect(here, CART)
        assert say(held, "a") == "app:a"
        edit_config(mesh, "host1", {"enabled = false": ""})
        mesh.reload_agent("host1")
        assert "table inet nodeagent {" in mesh.exec("host1", "nodeagent", "intercept", "show").stdout
        assert [call(shop, here, CART, "hello"), say(held, "c")] == ["app:hello", "app:c"]


def test_a_reload_while_one_runs_comes_after_it(mesh: Lab) -> None:
    """Both are done, whatever moment the second signal comes in; none ends the agent."""
    pid, before = supervisor(mesh, "host1"), look.status(mesh, "host1")["supervisor"]["generation"]
    with new_connections(mesh, "host1", "shop", mesh.host("host2").ipv4, WEB) as client:
        lines = len(look.log_lines(mesh, "host1", "reload_started"))
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: len(look.log_lines(mesh, "host1", "reload_started")) > lines, "the first is under way")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: is_generation(mesh, before + 2), "both are done", deadline_s=60)
        client.go_on()
    assert client.wrong == []


def firewall(lab: Lab, host: str) -> set[tuple[str, str]]:
    """What the doctor says there of packet filter rules."""
    told = json.loads(lab.exec(host, "nodeagent", "check", "-o", "json").stdout)
    return {(each["level"], each["found"]) for each in told["findings"] if each["group"] == "firewall"}


def is_generation(lab: Lab, generation: int) -> bool:
    """Whether host1's agent is of that generation and serves; it does not always answer meanwhile."""
    lines = look.log_lines(lab, "host1", "supervisor_ready")
    return bool(lines) and lines[-1]["generation"] == generation


def test_fewer_workers_and_more_lose_nothing(mesh: Lab) -> None:
    """Surplus slots leave their sockets to the others; new ones get sockets of their own."""
    with new_connections(mesh, "host1", "shop", mesh.host("host2").ipv4, WEB) as client:
        for before, after in ((2, 1), (1, 3), (3, 2)):
            edit_config(mesh, "host1", {f"workers = {before}": f"workers = {after}"})
            client.go_on()
            mesh.reload_agent("host1")
            client.go_on()
            states = [w["state"] for w in look.status(mesh, "host1")["workers"]]
            assert states.count("serving") == after
    assert client.wrong == []


def test_a_revocation_reaches_the_workers_of_before(make_lab: MakeLab) -> None:
    """They hear what keys are withdrawn: their tunnels to a host whose token was taken back are cut."""
    lab = make_lab(workers=1)
    with App(lab, "host2", "web", WEB), Unit(lab, "host1", "shop") as shop:
        set_intentions(lab, {("shop", "web"): "allow"})
        sock = shop.connect(lab.host("host2").ipv4, WEB)
        assert say(sock, "hello") == "app:hello"
        for host in ("host1", "host2"):
            lab.reload_agent(host)
        assert say(sock, "still") == "app:still"
        revoke(lab, accessor_of(lab, "host2"))
        assert heard(sock) == "reset"
        # Whichever of the two cuts first says why; the other has lost its peer.
        told = lambda: [line for host in ("host1", "host2") for line in look.with_facts(lab, host, reason="revoked")]  # noqa: E731
        wait_until(told, "a record says why")


def test_connections_of_before_are_closed_when_their_time_is_over_and_stop_leaves_nobody(make_lab: MakeLab) -> None:
    """drain_max_s, with the reason in the record; SIGTERM while an old generation lives ends that one, too."""
    lab = make_lab(hosts=1, workers=1)
    edit_config(lab, "host1", {"workers = 1": "workers = 1\ndrain_max_s = 3\ndrain_s = 1"})
    lab.reload_agent("host1")
    with App(lab, "host1", "cart", CART), Unit(lab, "host1", "shop") as shop:
        set_intentions(lab, {("shop", "cart"): "allow"})
        sock = shop.connect(lab.host("host1").ipv4, CART)
        assert say(sock, "hello") == "app:hello"
        lab.reload_agent("host1")
        assert say(sock, "still") == "app:still"
        assert heard(sock) == "reset"
        look.closed(lab, "host1", 1, reason="drained", source="shop")
        edit_config(lab, "host1", {"drain_max_s = 3": "drain_max_s = 3000"})
        lab.reload_agent("host1")
        sock = shop.connect(lab.host("host1").ipv4, CART)
        assert say(sock, "hello") == "app:hello"
        lab.reload_agent("host1")
        lab.stop_agent("host1")
        assert lab.pids("host1", "nodeagent") == ()
        assert say(sock, "gone") in ("reset", "closed")
