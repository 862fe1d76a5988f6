"""Who may call whom: every rank of the precedence, decided alike by the caller's agent and the callee's, within a second."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.impostor import Impostor
from tests.e2e.support.policy import Rows, in_force, set_intentions
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB, LATE = 8080, 8081
WITHIN_S = 10.0  # ten times what is promised
AGAIN = 25
SHOP_WEB, ANY_WEB, SHOP_ANY, ANY_ANY = ("shop", "web"), ("*", "web"), ("shop", "*"), ("*", "*")
ALLOW, DENY = "allow", "deny"

TABLE: list[tuple[Rows, str]] = [
    ({}, ""),
    ({("web", "shop"): ALLOW}, ""),
    ({("till", "web"): ALLOW, ("shop", "till"): ALLOW}, ""),
    ({SHOP_WEB: ALLOW}, "shop -> web (allow)"),
    ({ANY_WEB: ALLOW}, "* -> web (allow)"),
    ({SHOP_ANY: ALLOW}, "shop -> * (allow)"),
    ({ANY_ANY: ALLOW}, "* -> * (allow)"),
    ({ANY_WEB: ALLOW, SHOP_WEB: DENY}, ""),
    ({ANY_WEB: DENY, SHOP_WEB: ALLOW}, "shop -> web (allow)"),
    ({SHOP_ANY: ALLOW, ANY_WEB: DENY}, ""),
    ({SHOP_ANY: DENY, ANY_WEB: ALLOW}, "* -> web (allow)"),
    ({ANY_ANY: ALLOW, SHOP_ANY: DENY}, ""),
    ({ANY_ANY: DENY, SHOP_ANY: ALLOW}, "shop -> * (allow)"),
    ({ANY_ANY: ALLOW, ("till", "web"): DENY}, "* -> * (allow)"),
    ({SHOP_WEB: DENY, ANY_WEB: ALLOW, SHOP_ANY: ALLOW, ANY_ANY: ALLOW}, ""),
    ({SHOP_WEB: ALLOW, ANY_WEB: DENY, SHOP_ANY: DENY, ANY_ANY: DENY}, "shop -> web (allow)"),
]


class Mesh(NamedTuple):
    """`web` on host2, `shop` on host1, and somebody there who dials host2's agent as `shop` without asking host1's."""

    lab: Lab
    web: App
    shop: Unit
    impostor: Impostor
    svid: Path

    @property
    def address(self) -> str:
        """Of `web`."""
        return self.lab.host("host2").ipv4


@pytest.fixture(scope="module")
def mesh(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """For the whole module; each test sets its intentions."""
    with (
        App(lab, "host2", "web", WEB) as web,
        Unit(lab, "host1", "shop") as shop,
        Impostor(lab, "host1", tmp_path_factory.mktemp("impostor")) as impostor,
    ):
        yield Mesh(lab, web, shop, impostor, impostor.svid("shop"))


@pytest.mark.parametrize(("rows", "permit"), TABLE)
def test_one_intention_decides_the_pair(mesh: Mesh, wire: Wire, canary: str, rows: Rows, permit: str) -> None:
    """The most specific one, at both ends alike; without any the answer is no. permit: by whom, if it is yes."""
    set_intentions(mesh.lab, rows)
    known = [len(look.log_lines(mesh.lab, host)) for host in ("host1", "host2")]
    answer = call(mesh.shop, mesh.address, WEB, canary)
    status = mesh.impostor.call(mesh.svid, f"{mesh.address}:{WEB}")
    assert (answer, status) == ((f"app:{canary}", 200) if permit else ("reset", 401))
    for host, before, count in zip(("host1", "host2"), known, (1, 2 if permit else 1), strict=True):
        eventually(lambda at=host, n=before + count: len(look.log_lines(mesh.lab, at)) >= n, WITHIN_S, "records")
        for row in look.log_lines(mesh.lab, host)[before:]:
            assert (row["source"], row["destination"]) == ("shop", "web")
            assert row.get("permit", "") == permit
            assert row["reason"] == "denied" or permit
    wire.assert_never_in_clear(canary)


def test_a_denied_caller_s_host_says_why_and_what_to_do(mesh: Mesh) -> None:
    """By default, and by an intention."""
    for rows, error in (
        ({}, "no intention allows shop -> web (default deny); allow it with: nodeagent intention allow shop web"),
        ({ANY_WEB: DENY}, "the intention * -> web (deny) denies shop -> web"),
    ):
        set_intentions(mesh.lab, rows)
        known = len(look.log_lines(mesh.lab, "host1"))
        assert call(mesh.shop, mesh.address, WEB, "hello") == "reset"
        eventually(lambda n=known: len(look.log_lines(mesh.lab, "host1")) > n, WITHIN_S, "a record")
        row = look.log_lines(mesh.lab, "host1")[-1]
        assert (row["reason"], row["side"]) == ("denied", "mesh")
        assert error in row["error"]
        shown = mesh.lab.exec("host1", "nodeagent", "connections", "--closed", "--limit", "1").stdout
        assert error in shown


def test_a_change_is_in_force_within_a_second_of_the_command(mesh: Mesh, wire: Wire, canary: str) -> None:
    """Deny, allow and delete, for every new connection from then on, at both ends."""
    set_intentions(mesh.lab, {})
    for verb, answer, status in ((ALLOW, f"app:{canary}", 200), (DENY, "reset", 401), (ALLOW, f"app:{canary}", 200),
                                 ("delete", "reset", 401)):  # fmt: skip
        done = mesh.lab.exec("host1", "nodeagent", "intention", verb, "shop", "web")
        began = time.monotonic()
        assert done.returncode == 0, done.stderr
        eventually(lambda a=answer: call(mesh.shop, mesh.address, WEB, canary) == a, WITHIN_S, verb)
        eventually(lambda s=status: mesh.impostor.call(mesh.svid, f"{mesh.address}:{WEB}") == s, WITHIN_S, verb)
        print(f"{verb}: in force {time.monotonic() - began:.3f} s after the command")
        assert [call(mesh.shop, mesh.address, WEB, canary) for _ in range(AGAIN)] == [answer] * AGAIN
    wire.assert_never_in_clear(canary)


def test_the_callee_says_no_though_the_caller_s_agent_has_not_heard(mesh: Mesh, wire: Wire, canary: str) -> None:
    """Its control plane is stopped, its tunnel is open, and it still believes that it may."""
    lab, pair = mesh.lab, ("shop", "late")
    control = next(p for p in lab.pids("host1", layout.AGENT) if Path(f"/proc/{p}").stat().st_uid == layout.CONTROL_UID)
    with App(lab, "host2", "late", LATE) as late:
        set_intentions(lab, {pair: ALLOW})
        assert call(mesh.shop, mesh.address, LATE, canary) == f"app:{canary}"
        os.kill(control, signal.SIGSTOP)
        try:
            entry = {"Kind": "service-intentions", "Name": "late", "Sources": [{"Name": "shop", "Action": DENY}]}
            lab.catalog("PUT", "/v1/config", entry)
            eventually(lambda: in_force(lab.host("host2")) == {pair: DENY}, WITHIN_S, "host2 has heard")
            assert [call(mesh.shop, mesh.address, LATE, canary) for _ in range(AGAIN)] == ["reset"] * AGAIN
            assert late.lines == [canary]
        finally:
            os.kill(control, signal.SIGCONT)
    rows = look.closed(lab, "host1", AGAIN, destination="late", reason="denied")
    told = "the callee's agent refused with status 401 (denied): the intention shop -> late (deny) denies shop -> late"
    assert all(row["error"].startswith(told) for row in rows)
    assert {(row["path"], row["permit"]) for row in rows} == {("tunnel", "shop -> late (allow)")}
    wire.assert_never_in_clear(canary)
