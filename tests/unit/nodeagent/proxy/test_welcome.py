"""Who may knock at the tunnel port, and what they are told."""

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable

import pytest

from nodeagent import limits
from nodeagent.errors import PeerUnreachable, Reason
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.welcome import read_hello
from nodeagent.wire.client_hello import ClientHello, HelloError
from tests.support.twohosts import TRUST_DOMAIN, TwoHosts, listening, run

SNI = f"web.default.dc1.internal.{TRUST_DOMAIN}"


def hello(name: str = SNI, *, protocols: tuple[str, ...] = ("h2",), tls12: bool = False) -> bytes:
    """The first bytes of OpenSSL's client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


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
        (lambda: hello(protocols=("http/1.1",)), 120, "no h2"),
        (lambda: hello(protocols=()), 120, "no h2"),
        (lambda: hello(tls12=True), 70, "no TLS 1.3"),
    ],
)
def test_a_refused_hello_gets_an_alert_and_a_record(data: Callable[[], bytes], description: int, sentence: str) -> None:
    """Unknown names, missing h2 and old versions are refused before any cryptography."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            assert await knock(hosts, data()) == bytes((21, 3, 3, 0, 2, 2, description))
            row = await recorded(hosts)
            assert (row.reason, row.peer) == (Reason.PEER_IDENTITY, "host1")
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

    run(work)


def test_a_silent_knock_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a hello, then nothing: closed after the deadline, and its place is free again."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.05)
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 1)

    async def work() -> None:
        async with TwoHosts() as hosts:
            assert await knock(hosts, hello()[:50]) == b""
            await recorded(hosts)
            assert await knock(hosts, hello("x.example.com"))

    run(work)


def test_one_source_cannot_fill_the_hall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its share of unfinished handshakes it is reset at once."""
    monkeypatch.setattr(limits, "HANDSHAKES_PER_SOURCE", 2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            waiting = [asyncio.create_task(knock(hosts, hello()[:50])) for _ in range(2)]
            while hosts.two.welcome._knocking["127.0.0.1"] < 2:
                await asyncio.sleep(0)
            with pytest.raises(ConnectionResetError):
                await knock(hosts, hello())
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

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
