"""Who may knock at the tunnel port, and what they are told."""

import asyncio
import dataclasses
import resource
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nodeagent import limits
from nodeagent.errors import PeerUnreachable, Reason, Side
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.welcome import read_hello
from nodeagent.wire.client_hello import ClientHello, HelloError
from nodeagent.wire.frames import WantHost
from tests.support.hello import hello as hello_for
from tests.support.twohosts import TRUST_DOMAIN, TwoHosts, key_ring, listening, run

SNI = f"web.default.dc1.internal.{TRUST_DOMAIN}"


def hello(name: str = SNI, **options: Any) -> bytes:
    """The first bytes of a peer's agent."""
    return hello_for(name, **options)


async def knock(hosts: TwoHosts, data: bytes, *, source: str = "127.0.0.1") -> bytes:
    """What the tunnel port answers to `data`, until it closes."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    try:
        sock.bind((source, 0))
        sock.setblocking(False)
        await loop.sock_connect(sock, hosts.door.getsockname())
        await loop.sock_sendall(sock, data)
        answer = b""
        while more := await loop.sock_recv(sock, 4096):
            answer += more
        return answer
    finally:
        sock.close()


async def recorded(hosts: TwoHosts) -> ConnectionRow:
    """The next row that host2 records."""
    while True:
        records = hosts.two.live.records.take()
        if records:
            return records.rows[0]
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("data", "description", "sentence"),
    [
        (lambda: hello("db.default.dc1.internal." + TRUST_DOMAIN), 112, "db is not registered on this host"),
        (lambda: hello("web.example.com"), 112, "web.example.com"),
        (lambda: hello(protocols=("http/1.1", "h3")), 120, "it offers http/1.1, h3 by ALPN, not h2"),
        (lambda: hello(protocols=()), 120, "it offers nothing by ALPN, not h2"),
        (lambda: hello(tls12=True), 70, "no TLS 1.3"),
    ],
)
def test_a_refused_hello_gets_an_alert_and_a_record(data: Callable[[], bytes], description: int, sentence: str) -> None:
    """Unknown names, missing h2 and old versions are refused before any cryptography."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            assert await knock(hosts, data()) == bytes((21, 3, 3, 0, 2, 2, description))
            row = await recorded(hosts)
            assert (row.reason, row.side, row.peer) == (Reason.PEER_IDENTITY, Side.DOWNSTREAM, "host1")
            assert sentence in row.error

    run(work)


def test_garbage_is_closed_without_a_word() -> None:
    """It is no TLS, so no alert would be understood."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            assert await knock(hosts, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
            assert "not TLS" in (await recorded(hosts)).error

    run(work)


def test_a_stranger_s_address_is_reset() -> None:
    """Only hosts of the mesh may cost us a handshake."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            with pytest.raises(ConnectionResetError):
                await knock(hosts, hello(), source="127.0.0.77")
            assert "no host of this mesh" in (await recorded(hosts)).error

    run(work)


def test_a_silent_knock_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a hello, then nothing: closed after the deadline, and its place is free again."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.05)
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 1)

    async def work() -> None:
        async with TwoHosts() as hosts:
            assert await knock(hosts, hello()[:50]) == b""
            row = await recorded(hosts)
            assert row.error.endswith("did not finish a tunnel handshake: it was not over within 0.05 s")
            assert row.closed_at - row.opened_at >= limits.HANDSHAKE_S * 0.9  # two clocks, one of them in milliseconds
            assert await knock(hosts, hello("x.example.com"))

    run(work)


def test_who_said_nothing_whole_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be its source's places all taken by others that are silent: the newest is heard, the oldest is closed and recorded."""
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            waiting = []
            for number in (1, 2):
                waiting.append(asyncio.create_task(knock(hosts, hello()[:50])))
                while len(hosts.two.welcome._hall._unread["127.0.0.1"]) < number:
                    await asyncio.sleep(0)
            assert await knock(hosts, hello(tls12=True))
            assert [await asyncio.wait_for(task, 20) for task in waiting[:1]] == [b""]
            assert not waiting[1].done()
            rows = [await recorded(hosts), await recorded(hosts)]
            assert {row.reason for row in rows} == {Reason.LIMIT, Reason.PEER_IDENTITY}
            waiting[1].cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(work)


@pytest.mark.parametrize("stalled_s", [60.0, 0.0])
def test_whose_hello_has_come_gives_way_only_when_it_stalls(monkeypatch: pytest.MonkeyPatch, stalled_s: float) -> None:
    """Beyond its share of the others a source is reset at once, and told apart in the record. A hello can be replayed:
    whoever says nothing after it must not keep an agent out."""
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 2)
    monkeypatch.setattr(limits, "HANDSHAKE_STALLED_S", stalled_s)

    async def work() -> None:
        async with TwoHosts() as hosts:
            hall = hosts.two.welcome._hall
            stalled = [asyncio.create_task(knock(hosts, hello())) for _ in range(2)]
            while len(hall._heard["127.0.0.1"]) < 2:
                await asyncio.sleep(0)
            if stalled_s:
                with pytest.raises(ConnectionResetError):
                    await knock(hosts, hello())
                said = "2 handshakes in flight"
            else:
                assert not (await hosts.call()).is_closed
                said = "did not go on after its hello, and gave its place"
            row = await recorded(hosts)
            assert (row.reason, row.peer) == (Reason.LIMIT, "host1")
            assert said in row.error
            for task in stalled:
                task.cancel()
            await asyncio.gather(*stalled, return_exceptions=True)

    run(work)


def peeking(*portions: bytes, then_close: bool) -> ClientHello:
    """What read_hello makes of these portions, sent one after another."""

    async def work() -> ClientHello:
        door = listening("127.0.0.1")
        far = socket.create_connection(door.getsockname())
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near, _ = door.accept()
        door.close()
        near.setblocking(False)
        try:
            reading = asyncio.create_task(read_hello(near))
            for portion in portions:
                far.send(portion)
                await asyncio.sleep(0)
            if then_close:
                far.close()
            found = await reading
            assert near.recv(65536) == b"".join(portions), "peeked, never consumed"
            return found
        finally:
            near.close()
            far.close()

    return run(work)


def test_a_hello_in_single_bytes_is_read_and_left_in_place() -> None:
    """TLS reads it again."""
    data = hello()
    found = peeking(*(data[i : i + 1] for i in range(len(data))), then_close=False)
    assert found.server_name == SNI


@pytest.mark.parametrize("size", [0, 3, 5, 100])
def test_a_peer_that_closes_early_does_not_spin(size: int) -> None:
    """Woken again and still short: closed."""
    with pytest.raises(HelloError, match="closed"):
        peeking(hello()[:size], then_close=True)


def test_a_callee_that_renews_has_its_peers_open_fresh_tunnels() -> None:
    """What is open goes on; nobody waits until a certificate ends by one host's clock and not yet by the other's."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            (ours,) = hosts.one.live.tunnels
            hosts.two.live.keys.replace(key_ring(hosts.ca, "web"))
            hosts.two.welcome.retire_stale()
            while not ours.is_ending:
                await asyncio.sleep(0)
            assert not end.is_closed
            await hosts.call()
            assert len(hosts.one.live.tunnels) == 2
            hosts.two.welcome.retire_stale()
            await hosts.call()
            assert len(hosts.one.live.tunnels) == 2

    run(work)


def test_one_peer_holds_only_so_many_tunnels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is reset before any cryptography; those that are open go on."""
    monkeypatch.setattr(limits, "TUNNELS_PER_PEER", 2)
    monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 1)

    async def work() -> None:
        async with TwoHosts() as hosts:
            ends = [await hosts.call() for _ in range(2)]
            with pytest.raises(PeerUnreachable):
                await hosts.call()
            assert [end.is_closed for end in ends] == [False, False]
            assert hosts.two.live.accepted_from == {"127.0.0.1": 2}
            assert not hosts.one.live.accepted_from, "those that a host opens itself are not its peer's"
            for tunnel in list(hosts.two.live.tunnels):
                tunnel.lose("ended")
            while hosts.two.live.tunnels:
                await asyncio.sleep(0)
            assert not hosts.two.live.accepted_from

    run(work)


def test_without_descriptors_the_queue_is_looked_at_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all the time: the kernel keeps who knocks meanwhile."""
    monkeypatch.setattr(limits, "ACCEPT_REST_S", 0.01)

    async def work() -> None:
        async with TwoHosts() as hosts:
            complaints: list[BaseException] = []
            monkeypatch.setattr(hosts.two.live, "report", complaints.append)
            knocking = asyncio.create_task(knock(hosts, hello("x.example.com")))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            await asyncio.sleep(0)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
                while not complaints:
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert "Too many open files" in str(complaints[0])
            assert await knocking

    run(work)


def test_a_service_of_which_a_peer_has_heard_first_is_asked_for() -> None:
    """Before its name is refused; and it is, where nobody has heard of it."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            live, asked = hosts.two.live, list[WantHost]()
            known = live.snapshot
            late = dataclasses.replace(known, mesh=msgspec.structs.replace(known.mesh, is_late=True), services={}, by_address={})

            def answer(question: WantHost) -> bool:
                asked.append(question)
                asyncio.get_running_loop().call_soon(live.first_use.note, question.host, question.wanted)
                return True

            live.first_use.send = answer
            live.follow(late)
            assert (await knock(hosts, hello("db.default.dc1.internal." + TRUST_DOMAIN)))[-1] == 112
            live.first_use.send = lambda question: [live.follow(known), answer(question)][1]
            await hosts.call()
            assert asked == [WantHost("host2", "db"), WantHost("host2", "web")]

    run(work)


def test_who_asks_for_what_is_not_known_here_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is made up at no cost, and must not keep the other agents of its host out while news are waited for."""
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            live = hosts.two.live
            live.first_use.send = lambda _: True
            live.follow(dataclasses.replace(live.snapshot, mesh=msgspec.structs.replace(live.snapshot.mesh, is_late=True)))
            odd = [asyncio.create_task(knock(hosts, hello(f"{name}.default.dc1.internal." + TRUST_DOMAIN))) for name in ("db", "cart")]
            while len(live.first_use._waiting) < 2:
                await asyncio.sleep(0)
            assert not (await hosts.call()).is_closed
            row = await recorded(hosts)
            assert (row.reason, "which is not known here, and gave its place to a newer handshake" in row.error) == (Reason.LIMIT, True)
            live.first_use.give_up()
            await asyncio.gather(*odd)

    run(work)
