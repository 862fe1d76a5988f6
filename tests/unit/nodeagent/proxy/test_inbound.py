"""What comes from outside: streams in a tunnel and clear text."""

import asyncio
import dataclasses
import socket

import msgspec
import pytest

from nodeagent import limits
from nodeagent.errors import Loop, PlaintextRefused, Reason, Side, UpstreamRefused
from nodeagent.model.address import Address
from nodeagent.model.intention import Intention
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy import outbound
from nodeagent.proxy.call import Caller
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.inbound import Inbound
from nodeagent.wire import connect
from nodeagent.wire.frames import WantHost
from nodeagent.wire.stream import Headers
from tests.support.twohosts import TwoHosts, run


async def answered(hosts: TwoHosts, headers: Headers) -> tuple[bytes, ConnectionRow]:
    """The status of a hand-made stream from shop to web, and what host2 recorded."""
    end = await hosts.call()
    end.reset()
    (tunnel,) = hosts.one.live.tunnels
    while hosts.two.live.relays:
        await asyncio.sleep(0)
    hosts.two.live.records.take()
    end.head = asyncio.get_running_loop().create_future()
    stream = tunnel.session.open(headers, end)
    status = dict(await end.head)[b":status"]
    stream.reset()
    while not (records := hosts.two.live.records.take()):
        await asyncio.sleep(0)
    return status, records.rows[0]


CONNECT = (b":method", b"CONNECT")


@pytest.mark.parametrize(
    "headers",
    [[CONNECT], [CONNECT, (b":authority", b"")], [CONNECT, CONNECT, (b":authority", b"127.0.0.2:80")]],
    ids=["no authority", "an empty authority", "two methods"],
)
def test_a_malformed_head_is_recorded_as_other_refused_targets_are(headers: Headers) -> None:
    """The library resets such a stream by itself; the tunnel goes on."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            with pytest.raises(ConnectionResetError):
                await answered(hosts, headers)
            while not (records := hosts.two.live.records.take()):
                await asyncio.sleep(0)
            (row,) = records.rows
            assert (row.direction, row.reason, row.side) == ("tunnel", Reason.BAD_DESTINATION, Side.DOWNSTREAM)
            assert (row.source, row.destination, row.peer) == ("shop", "web", "host1")
            assert "malformed" in row.error
            assert not hosts.two.live.relays
            await hosts.call()
            assert len(hosts.two.live.tunnels) == 1

    run(work)


@pytest.mark.parametrize(
    ("authority", "extra", "status", "reason"),
    [
        (b"127.0.0.2:22", [], b"400", Reason.BAD_DESTINATION),
        (b"127.0.0.1:80", [], b"400", Reason.BAD_DESTINATION),
        (b"web:80", [], b"400", Reason.BAD_DESTINATION),
        (b"", [], b"400", Reason.BAD_DESTINATION),
        (None, [(b"nodeagent-hops", b"2")], b"400", Reason.LOOP),
    ],
)
def test_a_tunnel_is_no_open_proxy(
    authority: bytes | None, extra: Headers, status: bytes, reason: Reason
) -> None:
    """Only registered addresses of this host, and only from the first agent on the way."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            target = str(hosts.web).encode() if authority is None else authority
            headers = [(b":method", b"CONNECT"), (b":authority", target or b"x"), *extra]
            got, row = await answered(hosts, headers)
            assert (got, row.reason, row.source, row.mode) == (status, reason, "shop", "strict")

    run(work)


def late(snapshot: Snapshot) -> Snapshot:
    """The same mesh, where not all is watched and nobody has been heard of yet."""
    return dataclasses.replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, is_late=True), by_address={})


def test_what_a_peer_has_heard_of_first_is_asked_for() -> None:
    """Before its stream is decided."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            live, asked = hosts.two.live, list[WantHost]()
            known = live.snapshot

            def answer(question: WantHost) -> bool:
                asked.append(question)
                asyncio.get_running_loop().call_soon(lambda: (live.follow(known), live.first_use.note(question.host, question.wanted)))
                return True

            live.first_use.send = answer
            live.follow(late(known))
            await hosts.call()
            assert asked == [WantHost("host2", hosts.web.port)]

    run(work)


def test_a_stream_that_ends_while_it_is_asked_for_is_not_served() -> None:
    async def work() -> None:
        async with TwoHosts() as hosts:
            end, live = await hosts.call(), hosts.two.live
            end.reset()
            while live.relays:
                await asyncio.sleep(0)
            known, asked = live.snapshot, list[WantHost]()
            live.first_use.send = lambda question: [asked.append(question), True][1]
            live.follow(late(known))
            (tunnel,) = hosts.one.live.tunnels
            stream = tunnel.session.open(connect.request_headers(hosts.web), StreamEnd())
            while not asked:
                await asyncio.sleep(0)
            (waiting,) = live.relays.values()
            stream.reset()
            while not waiting.is_over:
                await asyncio.sleep(0)
            live.follow(known)
            live.first_use.give_up()
            while live.first_use._waiting or live.relays:
                await asyncio.sleep(0)
            await hosts.call()
            assert (waiting.upstream, waiting.row.permit) == (None, "")

    run(work)


def test_a_stream_for_which_there_is_no_room_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a peer could have as many open as it likes."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end, live, asked = await hosts.call(), hosts.two.live, list[WantHost]()
            end.reset()
            while live.relays:
                await asyncio.sleep(0)
            live.first_use.send = lambda question: [asked.append(question), False][1]
            live.follow(late(live.snapshot))
            monkeypatch.setattr(limits, "CONNECTIONS_PER_WORKER", 0)
            end.head = asyncio.get_running_loop().create_future()
            (tunnel,) = hosts.one.live.tunnels
            tunnel.session.open(connect.request_headers(hosts.web), end)
            assert (dict(await end.head)[b":status"], asked) == (b"503", [])

    run(work)


@pytest.mark.parametrize("authority", [b"x" * 60_000, b"127.0.0.2%" + b"x" * 60_000 + b":80"])
def test_what_a_peer_asks_for_is_not_repeated_at_length(authority: bytes) -> None:
    """A row has room for an address; rows as long as a peer likes would cost a worker its channel to control."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            got, row = await answered(hosts, [CONNECT, (b":authority", authority)])
            assert (got, row.reason) == (b"400", Reason.BAD_DESTINATION)
            assert row.original_dst == authority[: limits.AUTHORITY_BYTES].decode()
            assert len(row.error) <= limits.ERROR_CHARS

    run(work)


def test_a_service_at_a_port_of_the_agent_is_no_way_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever registered it there: the tunnel would end in its own beginning."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            monkeypatch.setattr(outbound, "_OWN_PORTS", (hosts.web.port,))
            with pytest.raises(Loop):
                await hosts.call()
            while not (records := hosts.two.live.records.take()):
                await asyncio.sleep(0)
            (row,) = records.rows
            assert (row.reason, row.source, row.destination) == (Reason.LOOP, "shop", "web")

    run(work)


def test_a_stream_that_is_reset_at_once_is_recorded_and_holds_nothing() -> None:
    """A peer that opens and resets streams as fast as it can must not leave connections behind."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            end.reset()
            (tunnel,) = hosts.one.live.tunnels
            request = [(b":method", b"CONNECT"), (b":authority", str(hosts.web).encode())]
            for _ in range(20):
                stream = tunnel.session.open(request, StreamEnd())
                opening = tunnel.session.data_to_send()
                stream.reset()
                tunnel.transport.write(opening + tunnel.session.data_to_send())
            while hosts.two.live.opened["tunnel"] < 21 or hosts.two.live.relays:
                await asyncio.sleep(0)
            rows = hosts.two.live.records.take().rows
            assert [row.reason for row in rows] == [Reason.RESET_BY_DOWNSTREAM] * 21
            assert hosts.two.live.budget.used == 0

    run(work)


def test_the_application_sees_the_callers_address() -> None:
    """Of the host at the other end of the tunnel, with a port from our own range."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            accepting = asyncio.create_task(hosts.accept())
            await hosts.call()
            _, (ip, port) = await accepting
            assert ip == "127.0.0.1"
            assert 1024 <= port <= 32767

    run(work)


def test_clear_text_is_refused_in_strict_mode() -> None:
    """With a reset, and a record that names service and cure."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            live = hosts.two.live
            client = await hosts.client()
            snapshot = live.snapshot
            found = next(iter(snapshot.by_address.values()))
            here = Address(*client.end.sock.getsockname())
            live.follow(type(snapshot)(2, snapshot.mesh, snapshot.services, snapshot.hosts, (), {here: found}, {}, {}))
            await Inbound(live, hosts.two.supervisor).serve_plaintext(client.end)
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(client.sock, 1)
            (row,) = live.records.take().rows
            assert (row.direction, row.reason, row.mode, row.generation) == ("plaintext", PlaintextRefused.reason, "strict", 2)
            assert row.destination == found.service.name
            assert "permissive" in row.error

    run(work)


def test_a_client_that_leaves_while_the_application_is_dialled_is_no_defect() -> None:
    """The late upstream is reset."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            end.reset()
            app, _ = await hosts.accept()
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(app, 1)
            assert isinstance(hosts.one.caller, Caller)
            assert isinstance(app, socket.socket)

    run(work)


def test_refused_streams_hold_nothing() -> None:
    """A denied peer may send what it likes, and end or not: no byte of it counts against the worker afterwards."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            (tunnel,) = hosts.one.live.tunnels
            hosts.follow(Intention("shop", "web", "deny"))
            ends = [StreamEnd() for _ in range(40)]
            for number, end in enumerate(ends):
                end.stream = tunnel.session.open(connect.request_headers(hosts.web), end)
                end.stream.write(b"x" * 200_000)
                if number % 2:
                    end.stream.write_eof()
            for end in ends:
                assert dict(await end.head)[b":status"] == b"401"
            while hosts.two.live.budget.used or hosts.one.live.budget.used:
                await asyncio.sleep(0)

    run(work)


def test_a_tunnel_whose_certificate_has_ended_carries_nothing_new() -> None:
    """Neither side trusts it any longer, whatever was open goes on."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            old = await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            assert ours.expires_at == theirs.expires_at < hosts.one.live.now() + 3700
            theirs.expires_at = 0.0
            with pytest.raises(UpstreamRefused, match="503"):
                await hosts.call()
            ours.expires_at = 0.0
            await hosts.call()
            assert len(hosts.one.live.tunnels) == 2
            assert not old.is_closed

    run(work)


def test_the_agent_s_own_ports_are_no_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local user who dials the inbound listener itself gets a reset, not a connection to it for ever."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client = await hosts.client()
            here = client.end.sock.getsockname()[1]
            monkeypatch.setattr("nodeagent.proxy.outbound._OWN_PORTS", (here,))
            await Inbound(hosts.two.live, hosts.two.supervisor).serve_plaintext(client.end)
            (row,) = hosts.two.live.records.take().rows
            assert row.reason == Reason.LOOP

    run(work)
