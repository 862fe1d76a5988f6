"""Many connections in few tunnels: nobody waits for anybody else, and nobody is refused for want of a stream."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, connect_all, speaks
from tests.e2e.support.unit import Unit, fill, fill_all, is_reset, receive, reset
from tests.support.eventually import eventually

WEB, BULK = 8080, 8081
RESETS = 400
NewUnit = Callable[..., Unit]


@pytest.fixture(scope="module")
def one(make_lab: MakeLab) -> Lab:
    """Two hosts whose agents have one worker each; `shop` and `cold` may call `web` and `bulk` on host2."""
    lab = make_lab(workers=1)
    for host in ("host1", "host2"):  # so that the agents, not the kernel, hold what nobody reads
        small = [f"net.ipv4.tcp_{which}mem=4096 16384 65536" for which in "rw"]
        assert lab.exec(host, "sysctl", "-w", *small).returncode == 0
    for name, port in (("web", WEB), ("bulk", BULK)):
        lab.register("host2", name, port)
        look.allow(lab, "*", name)
    return lab


@pytest.fixture
def unit(one: Lab) -> Iterator[NewUnit]:
    """`unit(host, service)`: closed when the test ends."""
    with ExitStack() as stack:
        yield lambda *names: stack.enter_context(Unit(one, *names))


@pytest.fixture
def echo(one: Lab, unit: NewUnit) -> Iterator[Echo]:
    """`web`, which echoes, on both families."""
    with Echo(unit("host2", "web").listen("::", WEB)) as served:
        yield served


@pytest.fixture(autouse=True)
def text(one: Lab, capture: Capture, canary: str) -> Iterator[bytes]:
    """What the tests send; in no test is it readable between the hosts."""
    wire = capture(one)
    yield canary.encode()
    wire.assert_never_in_clear(canary)


def target(lab: Lab, port: int = WEB) -> tuple[str, int]:
    """Where a service is."""
    return lab.host("host2").ipv4, port


def test_an_application_that_resets_at_once_is_called_once(one: Lab, unit: NewUnit, text: bytes) -> None:
    """Its agent's answer may be overtaken by the reset: the call was made all the same."""
    shop, server = unit("host1", "shop"), unit("host2", "web")
    listener = server.listen("0.0.0.0", WEB)
    for number in range(RESETS):
        client = shop.connect(*target(one))
        reset(server.accept(listener)[0])
        assert is_reset(client), number
    held = shop.connect(*target(one))
    last, _ = server.accept(listener)
    held.sendall(text)
    assert receive(last, len(text)) == text  # no call of before was in the queue


def test_a_stalled_reader_stops_nobody_else(one: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """Whoever reads slowly waits alone, and gets every byte when he reads at last; in both directions."""
    shop, server = unit("host1", "shop"), unit("host2", "bulk")
    listener = server.listen("0.0.0.0", BULK)
    ends = [(shop.connect(*target(one, BULK)), server.accept(listener)[0]) for _ in range(4)]
    piece = text * 2000
    slow = [(a, b) if n % 2 else (b, a) for n, (a, b) in enumerate(ends)]  # (reader, writer)
    sent = [fill(writer, piece) for _, writer in slow]
    others = [shop.connect(*target(one)) for _ in range(20)]
    assert all(speaks(other, text * 1000) for other in others)
    assert echo.accepted == 20
    for (reader, writer), count in zip(slow, sent, strict=True):
        writer.shutdown(socket.SHUT_WR)
        got = receive(reader, count + 1)
        assert len(got) == count
        assert got == (piece * (count // len(piece) + 1))[:count]


def test_reset_streams_with_unread_data_stop_nobody_else(one: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """Sixty clients go away without having read what was sent to them: their tunnel carries on, and holds nothing."""
    shop, server = unit("host1", "shop"), unit("host2", "bulk")
    listener = server.listen("0.0.0.0", BULK)
    other = shop.connect(*target(one))
    gone = [(shop.connect(*target(one, BULK)), server.accept(listener)[0]) for _ in range(60)]
    tunnels = look.total(one, "host1", "tunnels")
    fill_all(application for _, application in gone)
    held = 60 * limits.STREAM_WINDOW_BYTES // 2
    eventually(lambda: look.total(one, "host1", "buffered") > held, look.WITHIN_S, "the agent holds what nobody reads")
    for client, application in gone:
        reset(client)
        assert is_reset(application)
    late = shop.connect(*target(one, BULK))
    application = server.accept(listener)[0]
    for _ in range(100):
        application.sendall(text * 1000)
        assert receive(late, len(text) * 1000) == text * 1000
    assert speaks(other, text)
    for host in ("host1", "host2"):
        eventually(lambda at=host: look.total(one, at, "buffered") == 0, look.WITHIN_S, "nothing is held")
    assert look.total(one, "host1", "tunnels") == tunnels


def test_a_cold_pool_opens_one_tunnel_for_a_hundred_callers(one: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """Connections that come while a tunnel is being opened wait for it instead of opening their own."""
    before = look.total(one, "host1", "tunnels")
    clients = unit("host1", "cold").sockets(100)
    connect_all(clients, target(one))
    assert all(speaks(client, text) for client in clients)
    opened = eventually(lambda: look.total(one, "host1", "tunnels") - before, look.WITHIN_S, "the tunnel is shown")
    assert opened == 1
    rows = [row for row in look.open_rows(one, "host1") if row["source"] == "cold"]
    assert len(rows) == 100
    assert {row["path"] for row in rows} == {"tunnel"}


def test_more_connections_than_a_tunnel_takes_are_not_refused(one: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """Beyond a thousand streams another tunnel is opened; all of them work, and all of them end."""
    many = limits.STREAMS_PER_SESSION + 100
    before = look.total(one, "host1", "tunnels")
    clients = unit("host1", "crowd").sockets(many)
    connect_all(clients, target(one))
    assert sum(speaks(client, text) for client in clients) == many
    eventually(lambda: look.total(one, "host1", "streams") >= many, look.WITHIN_S, "all streams are shown")
    assert look.total(one, "host1", "tunnels") - before == 2
    for client in clients:
        client.close()
    for host in ("host1", "host2"):
        eventually(lambda at=host: look.total(one, at, "connections") == 0, look.WITHIN_S, f"{host} has let go")
    eventually(lambda: echo.open == 0, look.WITHIN_S, "the application saw every end")
    assert echo.resets == 0


def test_clients_that_reset_at_once_leave_nothing_behind(one: Lab, unit: NewUnit, echo: Echo, text: bytes) -> None:
    """Before or after the agent has looked: no traceback, no task, and each has its record."""
    before = len(look.log_lines(one, "host1"))
    shop = unit("host1", "hasty")
    clients = shop.sockets(1000)
    _, worker = look.first_worker(one, "host1")
    for number, client in enumerate(clients):
        if number == 800:  # those that come now are over before they are accepted
            os.kill(worker, signal.SIGSTOP)
        client.connect(target(one))
        if number % 2:
            client.sendall(text)
        reset(client)
    os.kill(worker, signal.SIGCONT)
    for host in ("host1", "host2"):
        eventually(lambda at=host: look.total(one, at, "connections") == 0, look.WITHIN_S, f"all have ended on {host}")
    eventually(lambda: len(look.log_lines(one, "host1")) - before >= len(clients), look.WITHIN_S, "their records")
    rows = look.log_lines(one, "host1")[before:]
    assert len(rows) == len(clients)
    assert {row["reason"] for row in rows} <= {"reset_by_downstream", "unidentified"}
    for host in ("host1", "host2"):
        assert "Traceback" not in one.host(host).log("nodeagent").read_text()
    assert speaks(shop.connect(*target(one)), text)
