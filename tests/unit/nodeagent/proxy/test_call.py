"""Calls through a tunnel between two hosts' data planes: real TLS and sockets on loopback."""

import asyncio
import gc
import socket

import pytest

from nodeagent import errors, limits
from nodeagent.errors import Denied, PeerIdentity, PeerUnreachable, UpstreamRefused, UpstreamTimeout
from nodeagent.model.address import Address
from nodeagent.model.intention import Intention
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.inbound import Inbound
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire.connect import RESET_CODES
from nodeagent.wire.stream import CANCEL, REFUSED_STREAM, Stream
from tests.support.loop import until
from tests.support.twohosts import Client, TwoHosts, key_ring, run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed soon, and a living agent has all the time."""
    monkeypatch.setattr(limits, "CALL_LOOK_S", 0.05)
    monkeypatch.setattr(limits, "CALL_SILENT_S", 0.4)
    monkeypatch.setattr(limits, "CALL_ANSWER_S", 60.0)


async def linked(hosts: TwoHosts) -> tuple[Client, socket.socket]:
    """A client whose connection is relayed to the application, and the application's socket."""
    accepting = asyncio.create_task(hosts.accept())
    end = await hosts.call()
    app, _ = await accepting
    client = await hosts.client()
    hosts.one.live.open(client.end, "outbound", Address("127.0.0.1", 1), "").link(end)
    return client, app


def test_bytes_and_ends_pass_in_both_directions() -> None:
    """And both hosts record the same totals, once."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            loop = asyncio.get_running_loop()
            client, app = await linked(hosts)
            await loop.sock_sendall(client.sock, b"hello")
            assert await loop.sock_recv(app, 100) == b"hello"
            client.sock.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(app, 100) == b""
            await loop.sock_sendall(app, b"a longer answer")
            app.close()
            assert await loop.sock_recv(client.sock, 100) == b"a longer answer"
            assert await loop.sock_recv(client.sock, 100) == b""
            client.sock.close()
            await asyncio.gather(hosts.one.live.is_empty.wait(), hosts.two.live.is_empty.wait())
            for live in (hosts.one.live, hosts.two.live):
                (row,) = live.records.take().rows
                assert (row.sent, row.received, row.reason) == (5, 15, "ok")

    run(work)


@pytest.mark.parametrize("side", ["client", "application"])
def test_a_reset_arrives_as_a_reset(side: str) -> None:
    """From either side; the other sees ECONNRESET, not a clean end."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client, app = await linked(hosts)
            near, far = (client.sock, app) if side == "client" else (app, client.sock)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            near.close()
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(far, 100)
            far.close()
            await asyncio.gather(hosts.one.live.is_empty.wait(), hosts.two.live.is_empty.wait())
            (row,) = hosts.two.live.records.take().rows
            assert row.reason == ("reset_by_downstream" if side == "client" else "reset_by_upstream")

    run(work)


def test_the_callee_enforces_policy() -> None:
    """Even where the caller's agent would have let it pass."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            stale = hosts.one.live.snapshot
            hosts.follow(Intention("shop", "web", "deny"))
            hosts.one.live.follow(stale)
            with pytest.raises(Denied, match="401"):
                await hosts.call()
            (row,) = hosts.two.live.records.take().rows
            assert (row.reason, row.source, row.destination) == ("denied", "shop", "web")

    run(work)


def test_a_dead_application_is_a_refused_upstream() -> None:
    """503, and the sentence says where nothing listens."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.app.close()
            with pytest.raises(UpstreamRefused, match="503"):
                await hosts.call()
            (row,) = hosts.two.live.records.take().rows
            assert str(hosts.web) in row.error

    run(work)


@pytest.mark.parametrize(
    ("code", "error", "tries"),
    [
        (CANCEL, errors.UpstreamReset, 1), (RESET_CODES[errors.Reason.POLICY_CHANGED], errors.PolicyChanged, 1), (REFUSED_STREAM, errors.PeerLost, 2),
    ],
)
def test_only_what_nobody_has_taken_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[errors.AgentError], tries: int
) -> None:
    """A reset stream may have reached the application, which must not see one call as two."""
    asked = []

    async def serve(_: Inbound, __: object, ___: object, stream: Stream, ____: object) -> None:
        asked.append(stream)
        stream.reset(code)

    async def work() -> None:
        async with TwoHosts() as hosts:
            with pytest.raises(error):
                await hosts.call()

    monkeypatch.setattr(Inbound, "_serve_stream", serve)
    run(work)
    assert len(asked) == tries


def test_a_callee_with_another_identity_is_refused() -> None:
    """A certificate of the right CA for another service is not the service that was asked for."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            ring = key_ring(hosts.ca, "shop")
            svid = ring.svids[0]
            disguised = type(svid)("web", svid.chain_pem, svid.key_pem, svid.not_after, svid.serial)
            hosts.two.live.keys.replace(type(ring)(ring.trust_domain, ring.bundle_pem, (disguised,)))
            with pytest.raises(PeerIdentity, match="svc/shop, not"):
                await hosts.call()

    run(work)


def test_a_caller_of_another_ca_is_refused() -> None:
    """The callee trusts its own roots only, and says so in its record."""

    async def work() -> None:
        async with TwoHosts() as hosts, TwoHosts() as strangers:
            hosts.one.live.keys.replace(key_ring(strangers.ca, "shop"))
            with pytest.raises(PeerIdentity, match="does not trust"):
                await hosts.call()

    run(work)


def test_a_host_without_an_agent_is_unreachable() -> None:
    """With the address and the likely cure."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.two.welcome.close()
            hosts.door.close()
            with pytest.raises(PeerUnreachable, match="is nodeagent running there"):
                await hosts.call()

    run(work)


def test_many_calls_at_once_share_one_handshake() -> None:
    """Single flight: a hundred callers, one tunnel."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            ends = await asyncio.gather(*(hosts.call() for _ in range(100)))
            assert len(hosts.one.live.tunnels) == len(hosts.two.live.tunnels) == 1
            assert len({end.stream.id for end in ends}) == 100

    run(work)


def test_more_streams_than_a_session_takes_open_another_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """And beyond the tunnels of one key the caller is told of the limit."""
    monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 3)

    async def work() -> None:
        async with TwoHosts() as hosts:
            ends = [await hosts.call() for _ in range(7)]
            assert len(hosts.one.live.tunnels) == 3
            assert len(ends) == 7

    run(work)


def test_new_keys_open_a_fresh_tunnel_and_old_streams_live_on() -> None:
    """After a renewal."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            loop = asyncio.get_running_loop()
            client, app = await linked(hosts)
            hosts.one.live.keys.replace(key_ring(hosts.ca, "shop"))
            hosts.one.pool.retire_stale()
            second: StreamEnd = await hosts.call()
            assert len(hosts.one.live.tunnels) == 2
            await loop.sock_sendall(client.sock, b"still here")
            assert await loop.sock_recv(app, 100) == b"still here"
            second.reset()

    run(work)


def test_a_lost_tunnel_resets_what_was_in_it() -> None:
    """The client learns at once, and the record says that the peer was lost."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client, app = await linked(hosts)
            for tunnel in list(hosts.two.live.tunnels):
                tunnel.transport.abort()
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(client.sock, 100)
            (row,) = hosts.one.live.records.take().rows
            assert row.reason == "peer_lost"
            app.close()

    run(work)


def test_a_tunnel_that_breaks_before_the_answer_costs_the_caller_nothing() -> None:
    """No payload has passed: the call is made again in a fresh tunnel."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            (theirs,) = hosts.two.live.tunnels
            theirs.transport.pause_reading()
            calling = asyncio.create_task(hosts.call())
            await asyncio.sleep(0)
            theirs.transport.abort()
            end = await calling
            assert not end.is_closed
            assert len(hosts.one.live.tunnels) == 1

    run(work)


def test_a_slow_reader_holds_a_bounded_amount() -> None:
    """The writer is paused; nothing is lost when the reader goes on."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            loop = asyncio.get_running_loop()
            client, app = await linked(hosts)
            payload = bytes(range(256)) * 80_000
            writing = asyncio.create_task(loop.sock_sendall(client.sock, payload))
            held = 0
            for _ in range(2000):
                await asyncio.sleep(0)
                held = max(held, hosts.one.live.budget.used + hosts.two.live.budget.used)
            assert not writing.done()
            assert held <= 2 * (limits.STREAM_WINDOW_BYTES + 2 * limits.STREAM_QUEUE_BYTES)
            got = bytearray()
            while len(got) < len(payload):
                got += await loop.sock_recv(app, 1 << 20)
            await writing
            assert bytes(got) == payload
            app.close()
            client.sock.close()

    run(work)


async def hanging(hosts: TwoHosts) -> tuple[StreamEnd, Tunnel, Tunnel]:
    """An open call, and both ends of its tunnel, of which the callee's agent reads no more."""
    old = await hosts.call()
    (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
    theirs.transport.pause_reading()
    return old, ours, theirs


def test_a_callee_that_hangs_is_given_up_soon_and_what_is_open_waits_for_it(quick: None) -> None:
    """Its tunnel takes no new calls; once it goes on, so does what it carries, though its answer comes late."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            old, ours, theirs = await hanging(hosts)
            await hosts.call()  # by a second tunnel
            assert ours.is_ending
            assert list(ours.session.streams.values()) == [old.stream]
            theirs.transport.resume_reading()
            await until(lambda: ours.session.pongs == 1, "the late answer")
            assert not old.is_closed
            old.reset()
            await until(lambda: ours.transport is None, "its end")

    run(work)


def test_calls_that_wait_ask_once_and_an_answer_in_time_costs_nothing(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callee's agent that is busy for a while keeps its tunnel, and its calls."""
    monkeypatch.setattr(limits, "CALL_SILENT_S", 60.0)

    async def work() -> None:
        async with TwoHosts() as hosts:
            _, ours, theirs = await hanging(hosts)
            calls = [asyncio.create_task(hosts.call()) for _ in range(50)]
            await until(lambda: ours._asked_at > ours._heard_at, "a question")
            before = ours._asked_at
            await asyncio.wait(calls, timeout=5 * limits.CALL_LOOK_S)
            assert ours._asked_at == before
            theirs.transport.resume_reading()
            await asyncio.gather(*calls)
            assert hosts.one.live.tunnels == {ours}
            assert (ours.is_ending, len(ours.session.streams)) == (False, 51)

    run(work)


def test_mute_tunnels_of_a_callee_are_given_up_together(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try does not wait in another one."""
    monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            for _ in range(4):
                await hosts.call()
            olds = set(hosts.one.live.tunnels)
            (await hosts.call()).reset()
            assert len(olds) == 2
            monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 3)
            for theirs in hosts.two.live.tunnels:
                theirs.transport.pause_reading()
            await hosts.call()
            assert all(tunnel.is_ending for tunnel in olds)

    run(work)


def test_a_host_that_says_nothing_in_a_new_tunnel_either_is_unreachable(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told before a handshake's time is over; that nobody waits for its end any more is no defect."""
    monkeypatch.setattr(limits, "CALL_AGAIN_S", 0.05)
    monkeypatch.setattr(limits, "HANDSHAKE_S", 1.0)
    defects: list[dict[str, object]] = []

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hanging(hosts)
            asyncio.get_running_loop().remove_reader(hosts.door.fileno())
            asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))
            with pytest.raises(PeerUnreachable, match="says nothing; does its agent hang"):
                await hosts.call()
            await until(lambda: not hosts.one.pool._opening, "the end of the handshake")
            gc.collect()

    run(work)
    assert defects == []


def test_a_callee_that_lives_has_all_its_time(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers that it does, whatever its application is about: it keeps its tunnel."""
    monkeypatch.setattr(limits, "CALL_ANSWER_S", 0.5)

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            monkeypatch.setattr(theirs, "_on_request", lambda *_: StreamEnd())  # an application that is never reached
            with pytest.raises(UpstreamTimeout, match="no answer"):
                await hosts.call()
            assert not ours.is_ending
            assert ours.session.pongs > 1

    run(work)


def test_a_callee_that_does_not_answer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent lives and says nothing: the caller's connection ends with a reason, and its stream with it."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            theirs.transport.pause_reading()
            monkeypatch.setattr(limits, "CALL_ANSWER_S", 0.05)
            with pytest.raises(UpstreamTimeout, match="no answer"):
                await hosts.call()
            assert not ours.session.streams

    run(work)
