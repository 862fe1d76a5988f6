"""What two programs see of each other through the mesh is what they see without it: data, ends, resets, back-pressure.

Every test runs between bare hosts first, so that what it expects is what TCP does, then through two agents, then through
one agent on one host.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import Capture, MakeLab
from tests.e2e.support import mesh
from tests.e2e.support.peers import Pair, start_peer

PORT = 7000
MEBIBYTE = 1 << 20


class Way(NamedTuple):
    """Between which hosts a test runs."""

    lab: Lab
    crosses_meshed_wire: bool = True
    caller: str = "host1"
    family: int = 4


@pytest.fixture(scope="module")
def meshed(make_lab: MakeLab) -> Lab:
    """Hosts with agents; shop may call echo."""
    lab = make_lab()
    lab.register("host2", "echo", PORT)
    mesh.allow(lab, "shop", "echo")
    return lab


@pytest.fixture(scope="module", params=["direct", "meshed", "meshed-ipv6", "local"])
def way(request: pytest.FixtureRequest, make_lab: MakeLab) -> Way:
    """Bare hosts, then hosts with agents."""
    if request.param == "direct":
        return Way(make_lab(agents=False), crosses_meshed_wire=False)
    lab = request.getfixturevalue("meshed")
    if request.param == "local":
        return Way(lab, crosses_meshed_wire=False, caller="host2")
    return Way(lab, family=6 if request.param == "meshed-ipv6" else 4)


@pytest.fixture
def pair(way: Way, capture: Capture, canary: str) -> Iterator[Pair]:
    """The two programs. Whatever they say to each other never crosses a meshed wire in clear."""
    with ExitStack() as stack:
        if way.crosses_meshed_wire:
            wire = capture(way.lab)
            stack.callback(wire.assert_never_in_clear, canary)
        yield stack.enter_context(peers(way.lab, way.caller, way.family))


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_open(meshed: Lab) -> Iterator[None]:
    """When all programs have ended, both agents have forgotten them."""
    yield
    mesh.wait_quiet(meshed)


@contextmanager
def peers(lab: Lab, caller: str = "host1", family: int = 4) -> Iterator[Pair]:
    """A caller as `shop`, a listener as `echo` on host2."""
    host = lab.host("host2")
    with start_peer(lab, "host2", "echo", str(PORT)) as server, start_peer(lab, caller, "shop") as client:
        yield Pair(client, server, host.ipv6 if family == 6 else host.ipv4, PORT)


# --- who speaks first, and what the server sees ---------------------------------------------------------------------


def test_a_server_may_speak_first(way: Way, pair: Pair, canary: str) -> None:
    """And it sees the client host's address."""
    host = way.lab.host(way.caller)
    assert pair.open() == (host.ipv6 if way.family == 6 else host.ipv4)
    pair.server.do("send", "a", f"220 {canary}")
    assert pair.client.do("recv", "a", len(canary) + 4) == f"220 {canary}"
    pair.client.do("send", "a", "QUIT")
    assert pair.server.do("recv", "a", 4) == "QUIT"


# --- ends -----------------------------------------------------------------------------------------------------------


def test_the_client_ends_first_and_goes_on_reading(pair: Pair, canary: str) -> None:
    """A request ended by a FIN, a long answer."""
    pair.open()
    pair.client.do("send", "a", canary)
    pair.client.do("shut", "a")
    assert pair.server.do("drain", "a")[::2] == [len(canary), "EOF"]
    answer = pair.client.begin("drain", "a")
    sent = [pair.server.do("send_many", "a", canary, 20_000) for _ in range(3)]
    pair.server.do("close", "a")
    assert answer()[::2] == [sum(size for size, _ in sent), "EOF"]


def test_the_server_ends_first_and_goes_on_reading(pair: Pair, canary: str) -> None:
    """A greeting ended by a FIN, a long upload."""
    pair.open()
    pair.server.do("send", "a", canary)
    pair.server.do("shut", "a")
    assert pair.client.do("drain", "a")[::2] == [len(canary), "EOF"]
    upload = pair.server.begin("drain", "a")
    sent = [pair.client.do("send_many", "a", canary, 20_000) for _ in range(3)]
    pair.client.do("close", "a")
    assert upload()[::2] == [sum(size for size, _ in sent), "EOF"]


def test_both_end_at_once_with_data_under_way(pair: Pair, canary: str) -> None:
    """Neither direction loses its tail."""
    pair.open()
    for end in (pair.client, pair.server):
        end.do("send_many", "a", canary, 1000)
        end.do("shut", "a")
    for end in (pair.client, pair.server):
        assert end.do("drain", "a")[::2] == [len(canary) * 1000, "EOF"]


@pytest.mark.parametrize("leaver", ["client", "server"])
def test_an_immediate_close_is_an_end_and_no_reset(pair: Pair, leaver: str) -> None:
    """Nothing was said."""
    pair.open()
    stayer = pair.server if leaver == "client" else pair.client
    getattr(pair, leaver).do("close", "a")
    assert stayer.do("drain", "a")[::2] == [0, "EOF"]


def test_what_a_client_sent_before_it_was_gone_arrives(pair: Pair, canary: str) -> None:
    """Connect, send, close, before the server has accepted."""
    pair.client.do("connect", "a", pair.ip, pair.port)
    pair.client.do("leave", "a", canary, 1)
    pair.server.do("accept", "a")
    assert pair.server.do("recv", "a", 1000) == f"{canary}<EOF>"


def test_who_writes_to_one_that_is_gone_learns_it(pair: Pair, canary: str) -> None:
    """After the client's FIN, its kernel's RST."""
    pair.open()
    pair.client.do("close", "a")
    assert pair.server.do("drain", "a")[::2] == [0, "EOF"]
    assert pair.server.do("send_until_refused", "a", canary) == "EPIPE"


def test_closes_out_of_order_belong_to_their_connections(pair: Pair, canary: str) -> None:
    """Of four that are open at once, each ends for itself."""
    names = ("first", "second", "third", "fourth")
    for name in names:
        pair.open(name)
        pair.client.do("send", name, canary)
    pair.client.do("close", "third")
    assert pair.server.do("recv", "third", 1000) == f"{canary}<EOF>"
    pair.server.do("reset", "first")
    assert pair.client.do("recv", "first", 1) == "<ECONNRESET>"
    for name in ("second", "fourth"):
        pair.server.do("send", name, name)
        assert pair.client.do("recv", name, len(name)) == name
        assert pair.server.do("recv", name, len(canary)) == canary


# --- resets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_reset_is_a_reset_at_the_other_side(pair: Pair, canary: str, breaker: str) -> None:
    """ECONNRESET, not an end."""
    pair.open()
    other = pair.server if breaker == "client" else pair.client
    pair.client.do("send", "a", canary)
    assert pair.server.do("recv", "a", len(canary)) == canary
    getattr(pair, breaker).do("reset", "a")
    assert other.do("recv", "a", 1) == "<ECONNRESET>"


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_reset_after_the_other_side_has_ended(pair: Pair, canary: str, breaker: str) -> None:
    """A half-closed connection can be reset, too."""
    pair.open()
    breaking, other = (pair.client, pair.server) if breaker == "client" else (pair.server, pair.client)
    other.do("send", "a", canary)
    other.do("shut", "a")
    assert breaking.do("drain", "a")[2] == "EOF"
    breaking.do("reset", "a")
    assert other.do("recv", "a", 1) == "<ECONNRESET>"


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_close_that_leaves_bytes_unread_is_a_reset(pair: Pair, canary: str, breaker: str) -> None:
    """As the kernel does it."""
    pair.open()
    breaking, other = (pair.client, pair.server) if breaker == "client" else (pair.server, pair.client)
    other.do("send", "a", canary)
    assert breaking.do("wait", "a") == "readable"
    breaking.do("close", "a")
    assert other.do("recv", "a", 1) == "<ECONNRESET>"


@pytest.mark.parametrize("times", [1, 3000], ids=["short", "long"])
@pytest.mark.parametrize("breaker", ["client", "server"])
def test_what_was_said_before_a_reset_is_heard(pair: Pair, canary: str, breaker: str, times: int) -> None:
    """An early answer of a server that does not read the rest of the request."""
    pair.open()
    breaking, other = (pair.client, pair.server) if breaker == "client" else (pair.server, pair.client)
    other.do("send", "a", "more than anyone reads")
    assert breaking.do("wait", "a") == "readable"
    sent = breaking.do("leave", "a", canary, times)
    assert other.do("drain", "a")[::2] == [sent, "ECONNRESET"]


# --- flow -----------------------------------------------------------------------------------------------------------


def test_single_bytes_arrive_in_order(pair: Pair, canary: str) -> None:
    """A write for each byte, both ways."""
    pair.open()
    text = canary * 20
    for sender, reader in ((pair.client, pair.server), (pair.server, pair.client)):
        sender.do("nodelay", "a")
        assert sender.do("dribble", "a", text) == len(text)
        assert reader.do("recv", "a", len(text)) == text


def test_a_byte_that_waits_for_its_echo_is_not_held_back(pair: Pair, canary: str) -> None:
    """Ping-pong of single bytes."""
    pair.open()
    for end in (pair.client, pair.server):
        end.do("nodelay", "a")
    echo = pair.server.begin("echo", "a")
    assert pair.client.do("ping", "a", canary * 10) == canary * 10
    pair.client.do("shut", "a")
    assert echo() == "EOF"


@pytest.mark.parametrize("sender", ["client", "server"])
def test_one_large_write_arrives_whole(pair: Pair, canary: str, sender: str) -> None:
    """32 MiB in one call."""
    pair.open()
    sending, reading = (pair.client, pair.server) if sender == "client" else (pair.server, pair.client)
    answer = reading.begin("drain", "a")
    sent = sending.do("send_many", "a", canary, 32 * MEBIBYTE // len(canary))
    sending.do("close", "a")
    assert answer() == [*sent, "EOF"]


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_reader_that_stops_stops_the_writer_and_nobody_else(pair: Pair, canary: str, sender: str) -> None:
    """What is held for it is bounded, others go on, and when it reads on nothing is missing."""
    pair.open()
    sending, reading = (pair.client, pair.server) if sender == "client" else (pair.server, pair.client)
    sent = sending.do("fill", "a", canary)
    assert sent[0] < 32 * MEBIBYTE
    pair.open("other")
    echo = pair.server.begin("echo", "other")
    assert pair.client.do("ping", "other", canary) == canary
    pair.client.do("shut", "other")
    assert echo() == "EOF"
    sending.do("close", "a")
    assert reading.do("drain", "a", 1000) == [*sent, "EOF"]


# --- a client that is gone before the agent has looked --------------------------------------------------------------


@contextmanager
def stopped_workers(lab: Lab, host: str) -> Iterator[None]:
    """The workers of a host stand still: the kernel accepts for them."""
    pids = [worker.pid for worker in mesh.workers(lab, host)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_client_that_was_gone_before_the_agent_looked_is_heard(meshed: Lab, capture: Capture, canary: str) -> None:
    """It is identified although no process and no socket of it is left."""
    wire = capture(meshed)
    began = time.time()
    with peers(meshed) as pair:
        with stopped_workers(meshed, "host1"), start_peer(meshed, "host1", "shop") as client:
            client.do("connect", "a", pair.ip, pair.port)
            client.do("send", "a", canary)
        pair.server.do("accept", "a")
        assert pair.server.do("recv", "a", 1000) == f"{canary}<EOF>"
        pair.server.do("close", "a")
    (row,) = mesh.calls_since(meshed, "host1", began)
    assert (row.source, row.reason, row.sent) == ("shop", "ok", len(canary))
    wire.assert_never_in_clear(canary)


def test_a_client_that_reset_before_the_agent_looked_leaves_a_row_and_nothing_else(meshed: Lab) -> None:
    """Its end is closed, nobody calls it a defect, and the agent goes on."""
    began = time.time()
    with peers(meshed) as pair:
        with stopped_workers(meshed, "host1"):
            for number in range(20):
                pair.client.do("connect", str(number), pair.ip, pair.port)
                pair.client.do("reset", str(number))
        rows = mesh.calls_since(meshed, "host1", began, 20)
        assert {(row.reason, row.side, row.path) for row in rows} == {("reset_by_downstream", "downstream", "none")}
        assert pair.open()
    assert "Traceback" not in meshed.host("host1").log("nodeagent").read_text()


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_listening_is_an_accept_and_a_reset_at_once(meshed: Lab, family: int) -> None:
    """The one difference that interception cannot avoid: the README says so. The callee's kernel refuses, no timer runs."""
    began = time.time()
    host = meshed.host("host2")
    with start_peer(meshed, "host1", "shop") as client:
        assert client.is_reset(host.ipv4 if family == 4 else host.ipv6, PORT)
    (row,) = mesh.calls_since(meshed, "host1", began)
    assert (row.reason, row.side, row.path) == ("upstream_refused", "upstream", "tunnel")
