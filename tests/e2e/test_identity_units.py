"""Whose a connection is: units that are new, restarted, short-lived, nested, or only named like another."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from nodeagent.lab import cgroup
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import Order, call, call_from, call_with, marks_in_kernel, move, orphan
from tests.e2e.support.echo import Echo
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WEB, SHOP_ONLY, ACTIVATED = 8080, 8081, 8082
UNITS = 50


@pytest.fixture(scope="module")
def web(lab: Lab) -> Iterator[App]:
    """A service on host2 that everybody may call: who it was is in the records."""
    with App(lab, "host2", "web", WEB) as app:
        look.allow(lab, "*", "web")
        yield app


@pytest.fixture(scope="module")
def till(lab: Lab) -> Iterator[App]:
    """A service on host2 that only `shop` may call."""
    with App(lab, "host2", "till", SHOP_ONLY) as app:
        look.allow(lab, "shop", "till")
        yield app


def address(lab: Lab, number: int) -> str:
    """Of host2: both families in turn."""
    place = lab.host("host2")
    return place.ipv6 if number % 2 else place.ipv4


def line_of(canary: str, number: int) -> str:
    """A line that is known by its length, which the records show."""
    return f"{canary} ".ljust(100 + number, ".")


def sources(lab: Lab, host: str, count: int, direction: str, *, first: int = 0) -> dict[int, str]:
    """Number of the line -> who sent it, by the records of a host; each line was sent once."""
    sizes = range(101 + first, 101 + first + count)

    def rows() -> list[tuple[int, str]]:
        lines = (line for line in look.log_lines(lab, host) if line["direction"] == direction and line["sent"] in sizes)
        return [(line["sent"] - 101, line["source"]) for line in lines]

    eventually(lambda: len(rows()) >= count, look.WITHIN_S, f"{count} records on {host}")
    assert len(rows()) == count
    return dict(rows())


def test_a_unit_that_starts_and_calls_at_once_is_itself(lab: Lab, web: App, wire: Wire, canary: str) -> None:
    """Many new units within milliseconds, each calling before anybody could have told the kernel of it."""
    orders: list[Order] = [
        (f"system.slice/new{n}.service", address(lab, n), WEB, line_of(canary, n), "ask") for n in range(UNITS)
    ]
    assert call_from(lab, "host1", orders) == [f"app:{order[3].strip()}" for order in orders]
    expected = {number: f"new{number}" for number in range(UNITS)}
    assert sources(lab, "host1", UNITS, "outbound") == expected
    assert sources(lab, "host2", UNITS, "tunnel") == expected, "what the callee was shown by certificate"
    wire.assert_never_in_clear(canary)


def test_a_restarted_unit_is_itself_at_once(lab: Lab, web: App, wire: Wire, canary: str) -> None:
    """Its name is the old one and its cgroup a new one, again and again."""
    count, first = 20, 100
    path = "system.slice/again.service"
    (cgroup.mount() / lab.host("host1").cgroup / path).mkdir()
    eventually(lambda: "again" in marks_in_kernel(lab, "host1"), look.WITHIN_S, "the unit is in the kernel's map")
    orders: list[Order] = [(path, address(lab, n), WEB, line_of(canary, first + n), "again") for n in range(count)]
    assert call_from(lab, "host1", orders) == [f"app:{order[3]}" for order in orders]
    assert sources(lab, "host1", count, "outbound", first=first) == {first + n: "again" for n in range(count)}
    wire.assert_never_in_clear(canary)


def test_a_client_that_connects_sends_and_closes_at_once_is_identified(
    lab: Lab, till: App, wire: Wire, canary: str
) -> None:
    """The socket is gone when the agent looks; its SYN was stamped."""
    count, first = 200, 200
    path = "system.slice/shop.service"
    (cgroup.mount() / lab.host("host1").cgroup / path).mkdir()
    eventually(lambda: "shop" in marks_in_kernel(lab, "host1"), look.WITHIN_S, "the unit is in the kernel's map")
    orders: list[Order] = [
        (path, address(lab, n), SHOP_ONLY, line_of(canary, first + n), "leave") for n in range(count)
    ]  # fmt: skip
    assert call_from(lab, "host1", orders) == ["left"] * count
    lines = {order[3] for order in orders}
    eventually(lambda: lines <= set(till.lines), look.WITHIN_S, "every line has arrived")
    assert sources(lab, "host1", count, "outbound", first=first) == {first + n: "shop" for n in range(count)}
    wire.assert_never_in_clear(canary)


def test_a_new_unit_that_is_gone_at_once_is_itself_or_nobody(lab: Lab, till: App, wire: Wire, canary: str) -> None:
    """Nothing is left that could be asked, so it may be unidentified; it is never the unit that called before it."""
    count, first = 60, 400
    shop = "system.slice/shop.service"
    orders: list[Order] = [
        (f"system.slice/brief{n}.service" if n % 2 else shop, address(lab, n), SHOP_ONLY, line_of(canary, first + n), "leave")
        for n in range(count)
    ]  # fmt: skip
    assert call_from(lab, "host1", orders) == ["left"] * count
    found = sources(lab, "host1", count, "outbound", first=first)
    for number in range(1, count, 2):
        assert found[first + number] in (f"brief{number}", ""), number
        assert orders[number][3] not in till.lines
    wire.assert_never_in_clear(canary)


LOOKALIKES = {
    "system.slice/shop.service": "shop",
    "system.slice/shop.service/worker/3": "shop",
    "system.slice/system-shop.slice/shop.service": "shop",
    "user.slice/user-1000.slice/user@1000.service/app.slice/shop.service": "",
    "user.slice/shop.service": "",
    "machine.slice/shop.service": "",
    "init.scope/shop.service": "",
    "system.slice/mallory.service/shop.service": "mallory",
    "system.slice/mallory.service/system.slice/shop.service": "mallory",
    "system.slice/mallory.service/user.slice/shop.service": "mallory",
    "system.slice/shop.service.scope": "",
    "system.slice/shop": "",
    "shop.service": "shop",
    "system.slice/shop@1.service": "",
    r"system.slice/sh\x6fp.service": "",
    "system.slice/user@1000.service/app.slice/shop.service": "",
    "system.slice/docker-4f.scope/system.slice/shop.service": "",
    "machine.slice/machine-c1.scope/system.slice/shop.service": "",
    "machine.slice/systemd-nspawn@c1.service/payload/system.slice/shop.service": "",
    "lxc.payload.c1/system.slice/shop.service": "",
}


def test_only_the_host_s_own_unit_of_that_name_is_the_service(lab: Lab, till: App, wire: Wire, canary: str) -> None:
    """Users, containers and delegated subtrees may call their cgroups what they like; at once, and when all are known."""
    for _ in range(2):
        for number, (path, source) in enumerate(LOOKALIKES.items()):
            known = len(look.log_lines(lab, "host1"))
            (answer,) = call_from(lab, "host1", [(path, address(lab, number), SHOP_ONLY, canary, "ask")])
            (row,) = eventually(partial(rows_after, lab, known), look.WITHIN_S, f"a record of {path}")
            assert (row["source"], answer.startswith("app:")) == (source, source == "shop"), path
        eventually(lambda: {"shop", "mallory"} <= set(marks_in_kernel(lab, "host1")), look.WITHIN_S, "both are known")
    wire.assert_never_in_clear(canary)


def rows_after(lab: Lab, known: int) -> list[dict[str, Any]]:
    """The records on host1 after the first `known`."""
    return look.log_lines(lab, "host1")[known:]


# --- sockets in other hands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cgroup_of_maker", "source"), [("system.slice/shop.service", "shop"), ("init.scope", ""), ("system.slice/other.service", "other")]
)  # fmt: skip
def test_a_socket_speaks_as_its_maker_whoever_uses_it(
    lab: Lab, till: App, canary: str, cgroup_of_maker: str, source: str
) -> None:
    """The test itself, of no unit, gets it by SCM_RIGHTS and calls. What PID 1 makes is nobody's."""
    known = len(look.log_lines(lab, "host1"))
    with Unit(lab, "host1") as maker:
        move(maker, lab, "host1", cgroup_of_maker)
        answers = [call(maker, address(lab, number), SHOP_ONLY, canary) for number in range(2)]
    assert answers == [f"app:{canary}" if source == "shop" else "reset"] * 2
    eventually(lambda: len(look.log_lines(lab, "host1")) >= known + 2, look.WITHIN_S, "two records")
    assert {row["source"] for row in rows_after(lab, known)} == {source}
    assert (canary in till.lines) == (source == "shop")


def test_a_socket_outlives_its_unit_and_keeps_its_name(lab: Lab, till: App, canary: str) -> None:
    """Its cgroup is gone, from the kernel's map too: the look-up knows whose it was."""
    known = len(look.log_lines(lab, "host1"))
    with Unit(lab, "host1") as maker:
        sock = orphan(maker, lab, "host1", "gone")
        assert call_with(sock, address(lab, 0), SHOP_ONLY, canary) == "reset"
    (row,) = eventually(partial(rows_after, lab, known), look.WITHIN_S, "a record")
    assert (row["how"], row["source"], row["reason"]) == ("conntrack", "gone", "denied")


def test_a_service_whose_listener_pid_1_made_is_served_and_calls_as_itself(
    lab: Lab, till: App, wire: Wire, canary: str
) -> None:
    """Socket activation: who is called is told by address, and who calls by the socket that it made itself."""
    with Unit(lab, "host2") as systemd, Unit(lab, "host2", "shop") as activated, Unit(lab, "host1", "front") as front:
        move(systemd, lab, "host2", "init.scope")
        with Echo(systemd.listen("::", ACTIVATED)):
            lab.register("host2", "shop", ACTIVATED)
            look.allow(lab, "front", "shop")
            for number in range(2):
                assert call(front, address(lab, number), ACTIVATED, canary) == canary
        assert call(activated, address(lab, 0), SHOP_ONLY, canary) == f"app:{canary}"
    wire.assert_never_in_clear(canary)


@pytest.mark.parametrize(("end", "restarted"), [("stop_agent", "host1"), ("kill_agent", "host2")])
def test_a_restarted_agent_is_exempt_and_calls_nobody_through_itself(
    lab: Lab, till: App, wire: Wire, canary: str, end: str, restarted: str
) -> None:
    """It has a new cgroup under the old path: what it dials itself, peers and applications, must not come back to it."""
    getattr(lab, end)(restarted)
    lab.start_agent(restarted)
    before = [len(look.log_lines(lab, host)) for host in ("host1", "host2")]
    with Unit(lab, "host1", "shop") as shop:
        answers = [call(shop, address(lab, number), SHOP_ONLY, canary) for number in range(4)]
    assert answers == [f"app:{canary}"] * 4
    for host, known in zip(("host1", "host2"), before, strict=True):
        eventually(lambda at=host, n=known: len(look.log_lines(lab, at)) >= n + 4, look.WITHIN_S, f"records on {host}")
        rows = look.log_lines(lab, host)[known:]
        assert [(row["source"], row["reason"]) for row in rows] == [("shop", "ok")] * 4, "no call of the agent's own"
    wire.assert_never_in_clear(canary)
