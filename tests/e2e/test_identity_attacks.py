"""What an application may try to be taken for another: colliding source ports, forged marks."""

import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, marks_in_kernel, move, say
from tests.e2e.support.echo import connect_all
from tests.e2e.support.unit import Unit, reset
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

TILL, SIDE = 8081, 8082
VICTIMS = range(20_000, 20_400)
"""Source ports of the live connections of `shop`."""
TAKEN = range(24_000, 24_050)
"""Source ports that are in use at the agent, so that the kernel gives whoever uses them too another one."""
BATCHES = 40
REFUSED_S = 2.0  # a refusal takes a millisecond
STRANGER = "64123"


DEEP = "system.slice/a.slice/b.slice/c.slice"
"""The rules do not look so far down: units in there are never stamped."""


class Mesh(NamedTuple):
    """Two services on host2."""

    lab: Lab
    till: App
    """Only `shop` may call it; the attackers may not."""
    side: App
    """`pal` and `mallory` may call this one."""

    def ip(self, family: int) -> str:
        """Of host2."""
        place = self.lab.host("host2")
        return place.ipv6 if family == 6 else place.ipv4


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Iterator[Mesh]:
    """Both services, as long as the lab is up."""
    with App(lab, "host2", "till", TILL) as till, App(lab, "host2", "side", SIDE) as side:
        for source, destination in (("shop", "till"), ("pal", "side"), ("mallory", "side")):
            look.allow(lab, source, destination)
        yield Mesh(lab, till, side)


class Crowd:
    """Live connections of `shop` whose source ports are free at the agent, and ports there that are not. For one test.

    `shop` calls from ports that `pal` holds, so the kernel gives its connections other ports on their way to the agent;
    then `pal` lets go. Whoever gets such a port from the kernel looks to the agent as if it were `shop`.
    """

    def __init__(self, mesh: Mesh, family: int) -> None:
        self._lab, self._family, self._ip = mesh.lab, family, mesh.ip(family)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # In the host's own network: what was reset frees its port at once, and not after ten seconds. Nobody may send on a
        # connection that is about to be reset then: as the kernel no longer knows where it was redirected to, it goes as it is.
        self._set_rest(0)
        self._stack.callback(self._set_rest, 10)
        pal = self._stack.enter_context(Unit(self._lab, "host1", "pal"))
        shop = self._stack.enter_context(Unit(self._lab, "host1", "shop"))
        in_the_way = self._open(pal, VICTIMS, SIDE)
        self.victims = self._open(shop, VICTIMS, TILL)
        self._open(pal, TAKEN, SIDE)
        for sock in in_the_way:
            reset(sock)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def attack(self, attacker: Unit, line: str) -> list[str]:
        """Tries many times to get a victim's port from the kernel, and says the line: what each was answered."""
        answers: list[str] = []
        for _ in range(BATCHES):
            sockets = self.connect(attacker)
            answers += ["reset" if is_refused(sock) else say(sock, line) for sock in sockets]
            for sock in sockets:
                reset(sock)
        return answers

    def connect(self, unit: Unit) -> list[socket.socket]:
        """Calls to `till` from ports that are taken, so that the kernel gives each another one."""
        sockets = self._bound(unit, TAKEN)
        connect_all(sockets, (self._ip, TILL))
        return sockets

    def _set_rest(self, seconds: int) -> None:
        done = self._lab.exec("host1", "sysctl", "-qw", f"net.netfilter.nf_conntrack_tcp_timeout_close={seconds}")
        assert done.returncode == 0, done.stderr

    def _open(self, unit: Unit, ports: range, port: int) -> list[socket.socket]:
        sockets = self._bound(unit, ports)
        connect_all(sockets, (self._ip, port))
        assert {say(sock, "hello") for sock in sockets} == {"app:hello"}
        return sockets

    def _bound(self, unit: Unit, ports: range) -> list[socket.socket]:
        sockets = unit.sockets(len(ports), self._family)
        for sock, port in zip(sockets, ports, strict=True):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", port))
        return sockets


def is_refused(sock: socket.socket) -> bool:
    """Whether a connection is reset before anything was said; whoever is let in hears nothing yet."""
    if not select.select([sock], [], [], REFUSED_S)[0]:
        return False
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def rows_since(lab: Lab, host: str, known: int, count: int, destination: str) -> list[dict[str, Any]]:
    """The records of calls to a service, once there are so many, after the first `known` lines of the log."""

    def rows() -> list[dict[str, Any]]:
        return [row for row in look.log_lines(lab, host)[known:] if row["destination"] == destination]

    eventually(lambda: len(rows()) >= count, look.WITHIN_S, f"{count} records of calls to {destination}")
    return rows()


@pytest.mark.parametrize(
    ("cgroup", "family", "identity"),
    [
        ("system.slice/mallory.service", 4, ("stamp", "mallory", "denied")),
        (f"{DEEP}/mallory.service", 4, ("conntrack", "mallory", "denied")),
        (f"{DEEP}/mallory.service", 6, ("conntrack", "mallory", "denied")),
        ("user.slice/user-1000.slice", 4, ("conntrack", "", "unidentified")),
    ],
)
def test_the_port_of_anothers_connection_gives_nobody_its_name(
    mesh: Mesh, wire: Wire, canary: str, cgroup: str, family: int, identity: tuple[str, str, str]
) -> None:
    """Thousands of tries, stamped or not: some get a victim's port, and are refused as who they are."""
    lab = mesh.lab
    with Crowd(mesh, family) as crowd, Unit(lab, "host1", "mallory") as attacker:
        move(attacker, lab, "host1", cgroup)
        if identity[0] == "stamp":
            eventually(lambda: "mallory" in marks_in_kernel(lab, "host1"), look.WITHIN_S, "it is stamped")
        known = len(look.log_lines(lab, "host1"))
        answers = crowd.attack(attacker, canary)
        rows = rows_since(lab, "host1", known, len(answers), "till")
        assert {say(sock, "still here") for sock in crowd.victims} == {"app:still here"}
    assert set(answers) == {"reset"}
    assert canary not in mesh.till.lines
    # A supervisor that has no time for its answer makes a caller nobody, never somebody else.
    unanswered = ("unknown", "", "unidentified")
    assert {identity} <= {(row["how"], row["source"], row["reason"]) for row in rows} <= {identity, unanswered}
    got = [row for row in rows if int(row["client"].rpartition(":")[2]) in VICTIMS]
    assert got, "nobody got a victim's port: the test proves nothing"
    wire.assert_never_in_clear(canary)


def test_a_caller_without_a_stamp_is_itself_whatever_its_port(mesh: Mesh, wire: Wire, canary: str) -> None:
    """The other way round: whoever may call is not taken for somebody who may not."""
    lab = mesh.lab
    with Crowd(mesh, 4) as crowd, Unit(lab, "host1", "shop") as shop:
        move(shop, lab, "host1", f"{DEEP}/shop.service")
        known = len(look.log_lines(lab, "host1"))
        answers = [say(sock, canary) for sock in crowd.connect(shop)]
        assert answers == [f"app:{canary}"] * len(TAKEN)
    rows = rows_since(lab, "host1", known, len(answers), "till")
    assert ("conntrack", "shop", "ok") in {(row["how"], row["source"], row["reason"]) for row in rows}
    wire.assert_never_in_clear(canary)


# --- forged marks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("user", ["", STRANGER, str(layout.WORKER_UID)])
def test_a_forged_mark_changes_nobodys_name(mesh: Mesh, wire: Wire, canary: str, user: str, family: int) -> None:
    """CAP_NET_RAW lets a process set any mark: it is captured and named as without, and refused or served as such."""
    lab, ip = mesh.lab, mesh.ip(family)
    known = len(look.log_lines(lab, "host1"))
    with Unit(lab, "host1", "shop"), Unit(lab, "host1", "mallory", user=user) as mallory, Unit(lab, "host1") as nobody:
        eventually(lambda: {"mallory", "shop"} <= set(marks_in_kernel(lab, "host1")), look.WITHIN_S, "units are known")
        marks = [marks_in_kernel(lab, "host1")["shop"], limits.UPSTREAM_MARK, limits.UNIT_MARK_BASE, 0x7FFF_FFFF]
        answers = [call(unit, ip, TILL, canary, mark=mark) for mark in marks for unit in (mallory, nobody)]
        assert answers == ["reset"] * 8
        assert [call(mallory, ip, SIDE, canary, mark=mark) for mark in marks] == [f"app:{canary}"] * 4
    rows = rows_since(lab, "host1", known, 8, "till")
    assert {(row["source"], row["reason"]) for row in rows} == {("mallory", "denied"), ("", "unidentified")}
    assert canary not in mesh.till.lines
    wire.assert_never_in_clear(canary)


@pytest.mark.parametrize("family", [4, 6])
def test_a_forged_mark_does_not_slip_in_behind_a_syn_cookie(mesh: Mesh, wire: Wire, canary: str, family: int) -> None:
    """With cookies the kernel forgets the SYN and its stamp: the accepted socket has the mark of what comes after it."""
    lab, ip = mesh.lab, mesh.ip(family)
    known = len(look.log_lines(lab, "host1"))
    with always_cookies(lab, "host1"), Unit(lab, "host1", "shop") as shop, Unit(lab, "host1", "mallory") as mallory:
        eventually(lambda: {"mallory", "shop"} <= set(marks_in_kernel(lab, "host1")), look.WITHIN_S, "units are known")
        marks = marks_in_kernel(lab, "host1")
        assert call(shop, ip, TILL, canary) == f"app:{canary}"
        assert [call(mallory, ip, TILL, canary, mark=mark) for mark in marks.values()] == ["reset"] * len(marks)
    rows = rows_since(lab, "host1", known, len(marks) + 1, "till")
    assert {(row["how"], row["source"]) for row in rows} == {("conntrack", "shop"), ("conntrack", "mallory")}
    wire.assert_never_in_clear(canary)


@contextmanager
def always_cookies(lab: Lab, host: str) -> Iterator[None]:
    """As under a flood of SYNs."""
    try:
        _set_cookies(lab, host, 2)
        yield
    finally:
        _set_cookies(lab, host, 1)


def _set_cookies(lab: Lab, host: str, value: int) -> None:
    done = lab.exec(host, "sysctl", "-qw", f"net.ipv4.tcp_syncookies={value}")
    assert done.returncode == 0, done.stderr


def test_the_agents_own_mark_and_user_open_no_local_door(mesh: Mesh, canary: str) -> None:
    """A service of the same host is reached through policy, under any of its addresses and by whatever caller."""
    with Unit(mesh.lab, "host2", "mallory", user=str(layout.WORKER_UID)) as mallory:
        for address in (mesh.ip(4), mesh.ip(6), f"::ffff:{mesh.ip(4)}"):
            assert call(mallory, address, TILL, canary, mark=limits.UPSTREAM_MARK) == "reset"
            assert call(mallory, address, SIDE, canary, mark=limits.UPSTREAM_MARK) == f"app:{canary}"
    assert canary not in mesh.till.lines
