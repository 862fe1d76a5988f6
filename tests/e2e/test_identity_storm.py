"""Identity under attack: a storm of short connections over few source ports, and each is who it is, or nobody.

Several units and users, restarted in between, call the same destinations from the same ports at the same time, so that the
kernel rewrites their ports, meets rows of ended connections and reuses their tuples. Some forge marks, some use sockets of
another unit, some are nobody and only called like a unit. The length of what is said tells who says it: every record of both
agents and every line that arrives is compared with it.

10,000 connections by default; `STORM_CONNECTIONS=100000 script/test tests/e2e/test_identity_storm.py` makes so many. `-s`
shows the figures.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nodeagent import limits
from nodeagent.lab import cgroup, layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.callers import move
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("tunnels_only")

CONNECTIONS = int(os.environ.get("STORM_CONNECTIONS", "10000"))
DEADLINE_S = 60.0 + CONNECTIONS / 200
STORM = Path(__file__).parent / "support" / "storm.py"
PORTS = (40_000, 40_064)
CHOSEN_BY_KERNEL = "40000 40255"
"""The shared ports included; the agent's own calls need some, too."""
STAMPED, DEEP = "system.slice", "system.slice/a.slice/b.slice/c.slice"
"""The rules do not look so deep: units in there are never stamped."""
BATCH_USER, RULES = 64140, '\n[[workload]]\nselector = "unix:uid:64140"\nservice = "batch"\n'
NAMES = ("red", "blue", "green", "pink", "mallory", "lent", "batch", "mix", "solo")
ALL, HERE, STRANGERS, FIRST = 8100, 8101, 8102, 8110
"""Services for everybody, on host2 and on the caller's host; one that nobody with a name calls; then those of NAMES."""
FORGED = [limits.UNIT_MARK_BASE | number for number in range(1, 24)] + [limits.UPSTREAM_MARK]
REFUSED = {"ECONNRESET", "EPIPE", "closed"}


class Maker(NamedTuple):
    """Who makes sockets, and how they are used."""

    cgroup: str
    users: dict[int, str]
    """uid -> the service that the socket is of; empty: nobody's."""
    restart_every: int = 0
    marks: tuple[int, ...] = ()
    lender: str = ""
    """A unit whose sockets it uses instead of its own."""


def units_of(root: str) -> list[Maker]:
    """Four units and more, of which two share a user and one has two."""
    return [
        Maker(f"{root}/red.service", {64131: "red"}),
        Maker(f"{root}/blue.service", {64131: "blue"}),
        Maker(f"{root}/green.service", {64132: "green", 64133: "green"}, restart_every=100),
        Maker(f"{root}/pink.service", {64132: "pink"}, restart_every=60),
        Maker(f"{root}/mallory.service", {0: "mallory"}, marks=tuple(FORGED)),
        Maker(f"{root}/blue.service", {0: "lent"}, lender=f"{root}/lent.service"),
        Maker("user.slice/user-64131.slice/user@64131.service/app.slice/red.service", {64131: ""}),
        Maker("user.slice/user-64131.slice/session-2.scope", {64131: ""}, marks=tuple(FORGED)),
    ]


def users_of(root: str) -> list[Maker]:
    """A rule by uid comes first: one user is `batch` wherever it is, others are what their units are."""
    return [
        Maker(f"{root}/mix.service", {BATCH_USER: "batch", 64141: "mix"}, restart_every=100),
        Maker(f"{root}/solo.service", {64141: "solo"}, restart_every=60),
        Maker(f"{root}/red.service", {64131: "red"}, marks=tuple(FORGED)),
        Maker(f"{root}/red.service", {0: "lent"}, lender=f"{root}/lent.service"),
        Maker("user.slice/user-64140.slice/user@64140.service/app.slice/mix.service", {BATCH_USER: "batch", 64141: ""}),
        Maker("user.slice/user-64140.slice/session-3.scope", {64141: ""}, marks=tuple(FORGED)),
    ]


SCENES = {
    "stamp": ("host1", 0.35, units_of(STAMPED)),
    "lookup": ("host1", 0.35, units_of(DEEP)),
    "uid": ("host3", 0.15, users_of(STAMPED)),
    "uid-lookup": ("host3", 0.15, users_of(DEEP)),
}
"""Host, share of the connections, makers."""


class Records:
    """The connections that an agent wrote down from now on, read as they come."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._file = lab.host(host).log(layout.AGENT).open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> "Records":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, direction: str) -> list[dict[str, Any]]:
        """All so far of one direction."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        rows = [json.loads(line) for line in lines]
        self.rows += [row for row in rows if row["event"] == "connection_closed"]
        return [row for row in self.rows if row["direction"] == direction]


class Storm:
    """What each line means, and what came of it. For one test."""

    def __init__(self, lab: Lab, host: str, makers: list[Maker]) -> None:
        self._lab, self._host, self._makers = lab, host, makers
        self.who: dict[int, str] = {}
        """Length of the line -> the service it is of."""
        self.made = 0
        self.ends: Counter[tuple[str, str, str]] = Counter()
        """(service of the caller, service called, how it ended) -> connections."""

    def run(self, connections: int) -> None:
        """All makers at once."""
        with ExitStack() as stack:
            share = connections // len(self._makers)
            orders = [self._order(number, maker, share, stack) for number, maker in enumerate(self._makers)]
            callers = [self._start(order, stack) for order in orders]
            for caller, order in zip(callers, orders, strict=True):
                out, err = caller.communicate(timeout=DEADLINE_S)
                assert caller.returncode == 0, err
                for target, line, end, count in json.loads(out):
                    self.ends[self.who[line], service_at(order["targets"][target][1]), end] += count
        self.made = sum(count for (_, _, end), count in self.ends.items() if end != "in_use")

    def _order(self, number: int, maker: Maker, count: int, stack: ExitStack) -> dict[str, Any]:
        lines = []
        targets: list[tuple[str, int]] = []
        for uid, name in maker.users.items():
            line = 20 + len(self.who)
            self.who[line] = name
            first = len(targets)
            targets += self._targets(name)
            lines.append((uid, line, list(range(first, len(targets)))))
        borrow = -1
        if maker.lender:
            lender = stack.enter_context(Unit(self._lab, self._host))
            move(lender, self._lab, self._host, maker.lender)
            borrow = lender._channel.fileno()
        root = cgroup.mount() / self._lab.host(self._host).cgroup
        return {
            "cgroup": str(root / maker.cgroup), "lines": lines, "targets": targets, "count": count, "ports": PORTS,
            "seed": number, "restart_every": maker.restart_every, "marks": maker.marks, "borrow": borrow,
        }  # fmt: skip

    def _targets(self, name: str) -> list[tuple[str, int]]:
        """What everybody may call, on both hosts and in both families; and what this one alone may not."""
        there, here = self._lab.host("host2"), self._lab.host(self._host)
        not_ours = port_not_for(name) if name else STRANGERS
        return [(there.ipv4, ALL), (there.ipv6, ALL), (here.ipv4, HERE), (there.ipv4, not_ours), (there.ipv6, not_ours)]

    def _start(self, order: dict[str, Any], stack: ExitStack) -> "subprocess.Popen[str]":
        descriptors = [order["borrow"]] if order["borrow"] >= 0 else []
        process: subprocess.Popen[str] = stack.enter_context(
            self._lab.popen(
                self._host, [sys.executable, "-IS", str(STORM), "call"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=descriptors,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        assert process.stdin
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        process.stdin = None
        return process


def port_not_for(name: str) -> int:
    """Of the service that everybody but `name` may call."""
    return FIRST + NAMES.index(name)


def service_at(port: int) -> str:
    """The name that it is registered by."""
    return {ALL: "all", HERE: "here", STRANGERS: "strangers"}.get(port) or f"not-{NAMES[port - FIRST]}"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """host1 names units, host3 has a rule by uid before that; few ports, and services on host2 and on each caller's host."""
    lab = make_lab(agents=False, hosts=3)
    edit_config(lab, "host3", {}, added=RULES)
    for host in ("host1", "host2", "host3"):
        lab.start_agent(host)
    for host in ("host1", "host3"):
        done = lab.exec(host, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={CHOSEN_BY_KERNEL}")
        assert done.returncode == 0, done.stderr
        lab.register(host, "here", HERE)
    for port in (ALL, STRANGERS, *map(port_not_for, NAMES)):
        lab.register("host2", service_at(port), port)
        look.allow(lab, "*", service_at(port))
    look.allow(lab, "*", "here")
    for name in NAMES:
        look.decide(lab, "deny", name, service_at(port_not_for(name)))
    return lab


@pytest.fixture
def servers(lab: Lab) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """Host -> the process that answers there."""
    with ExitStack() as stack:
        started = {}
        for host in ("host1", "host2", "host3"):
            place = lab.host(host)
            ports = (ALL, STRANGERS, *map(port_not_for, NAMES)) if host == "host2" else (HERE,)
            server: subprocess.Popen[str] = stack.enter_context(
                lab.popen(
                    host, [sys.executable, "-IS", str(STORM), "serve"], service="server",
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
            stack.callback(server.kill)
            assert server.stdin
            assert server.stdout
            server.stdin.write(json.dumps([(ip, port) for ip in (place.ipv4, place.ipv6) for port in ports]) + "\n")
            server.stdin.flush()
            assert server.stdout.readline() == "ready\n"
            started[host] = server
        yield started


@pytest.mark.timeout(2 * DEADLINE_S)
@pytest.mark.parametrize("scene", SCENES)
def test_in_a_storm_nobody_is_taken_for_another(
    lab: Lab, servers: dict[str, "subprocess.Popen[str]"], scene: str
) -> None:
    """Whoever has a name is served and refused by it, or is nobody and refused; whoever has none is refused."""
    host, share, makers = SCENES[scene]
    with Records(lab, host) as near, Records(lab, "host2") as far:
        storm, began, lost = Storm(lab, host, makers), time.monotonic(), nipped(lab, host)
        storm.run(int(CONNECTIONS * share))
        took_s = time.monotonic() - began
        lost = nipped(lab, host) - lost
        eventually(lambda: len(near.read("outbound")) >= storm.made - lost, DEADLINE_S, f"{storm.made - lost} records")
        rows = near.read("outbound")
        served = sum(row["path"] == "tunnel" and row["reason"] == "ok" for row in rows)
        eventually(lambda: len(far.read("tunnel")) >= served, DEADLINE_S, f"{served} records on host2")
        tunnels = far.read("tunnel")
    arrived = heard(servers[host]) + heard(servers["host2"])
    print(figures(scene, storm, rows, took_s))
    assert storm.made - lost <= len(rows) <= storm.made, "every connection left one record"
    assert lost <= storm.made / 1000
    assert [row for row in rows if wrong(row, storm.who)] == []
    assert [row for row in tunnels if wrong(row, storm.who)] == [], "what the callee was shown by certificate"
    assert {line for _, line in arrived} <= {line for line, name in storm.who.items() if name}
    assert [name for (port, line) in arrived if service_at(port) == f"not-{(name := storm.who[line])}"] == []
    assert Counter(row["source"] for row in rows if row["reason"] == "unidentified").keys() <= {""}
    check_ends(storm, rows)


def wrong(row: dict[str, Any], who: dict[int, str]) -> bool:
    """Whether the record names another than the one who made the connection, or it was served and may not be.

    What was said tells who it was; where nothing was heard, the service that it called: each of those has one caller.
    """
    source, destination = row["source"], row["destination"]
    callers = {"", destination.removeprefix("not-")} if destination.startswith("not-") else set(who.values())
    if destination == "strangers":
        callers = {""}
    if row["sent"]:
        callers &= {"", who.get(row["sent"], "")}
    is_served = bool(row["received"]) or row["path"] != "none"
    return source not in callers or (is_served and (not source or destination in ("strangers", f"not-{source}")))


def check_ends(storm: Storm, rows: list[dict[str, Any]]) -> None:
    """Nobody was let down without a reason that has a name, and each who has a name was served by it."""
    assert {row["reason"] for row in rows} <= {"ok", "denied", "unidentified", "reset_by_downstream"}
    assert {end for _, _, end in storm.ends} <= {"answered", "left", "in_use", *REFUSED}
    answered = {(source, destination) for source, destination, end in storm.ends if end == "answered"}
    names = {name for name in storm.who.values() if name}
    assert answered == {(name, service) for name in names for service in ("all", "here")}
    turned_away = sum(n for (_, to, end), n in storm.ends.items() if end in REFUSED and to in ("all", "here"))
    assert turned_away <= sum(row["reason"] == "unidentified" for row in rows if row["destination"] in ("all", "here"))


def nipped(lab: Lab, host: str) -> int:
    """Connections that ended before anybody could accept them: a late reset of whoever had the tuple before met them."""
    names, values = (line.split() for line in lab.exec(host, "cat", "/proc/net/netstat").stdout.splitlines()[:2])
    return int(values[names.index("EmbryonicRsts")])


def heard(server: "subprocess.Popen[str]") -> Counter[tuple[int, int]]:
    """(port, length) -> lines that came; the server ends."""
    out, _ = server.communicate(timeout=DEADLINE_S)
    return Counter({(port, line): count for port, line, count in json.loads(out)})


def figures(scene: str, storm: Storm, rows: list[dict[str, Any]], took_s: float) -> str:
    """For the reader of `-s`."""
    low, high = map(int, CHOSEN_BY_KERNEL.split())
    rewritten = sum(not low <= int(row["client"].rpartition(":")[2]) <= high for row in rows)
    in_use = sum(count for (_, _, end), count in storm.ends.items() if end == "in_use")
    nameless = sum(n for (name, _, end), n in storm.ends.items() if not name and end != "in_use")
    asked = [row for row in rows if row["reason"] == "unidentified" and row["sent"]]
    unidentified = Counter(storm.who.get(row["sent"]) for row in asked)
    unidentified.pop("", 0)
    return (
        f"\n{scene}: {storm.made} connections, {storm.made / took_s:.0f}/s; source port rewritten {rewritten}; tuple in use "
        f"{in_use}; without a name {nameless}; named, but unidentified {unidentified.total()} "
        f"{dict(unidentified)}; "
        f"misattributed {sum(wrong(row, storm.who) for row in rows)}; how {dict(Counter(row['how'] for row in rows))}; "
        f"reasons {dict(Counter(row['reason'] for row in rows))}"
    )
