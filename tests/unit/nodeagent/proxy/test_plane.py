"""A worker's data plane as a whole: ready, serving, draining."""

import asyncio
import socket
from contextlib import suppress
from typing import Literal

import pytest

from nodeagent import limits
from nodeagent.catalog.codec import encode_snapshot
from nodeagent.errors import Reason, Side
from nodeagent.model.address import Address
from nodeagent.model.identity import KeyRing
from nodeagent.proxy.ends import TcpEnd
from nodeagent.proxy.plane import Plane
from nodeagent.wire import requests
from nodeagent.wire.frames import KeysFrame, SnapshotFrame, encode_frame
from tests.support.twohosts import config_of, listening, run, snapshot_of


class Scene:
    """A worker's plane with the test as supervisor and as control. Owned by one test."""

    def __init__(self) -> None:
        self.ours, self.supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, self.far = socket.socketpair()
        self.supervisor.setblocking(False)
        self.plane = Plane("b1", config_of("host1", "127.0.0.1"), self.ours, control)
        self.serving = asyncio.create_task(self.plane.serve())

    async def said(self, kind: int) -> int:
        """The number with which the worker has said `kind`."""
        loop = asyncio.get_running_loop()
        while (message := await loop.sock_recv(self.supervisor, 512))[0] != kind:
            pass
        return requests.decode_beat(message)

    async def listen(self) -> socket.socket:
        """Has it serve; gives a copy of its outbound listener."""
        outbound, door = listening("127.0.0.1"), listening("127.0.0.1")
        message = requests.encode_listen([("outbound", 4), ("tunnel", 4)])
        socket.send_fds(self.supervisor, [message], [outbound.fileno(), door.fileno()])
        door.close()
        await self.said(requests.SERVING)
        return outbound

    def close(self) -> None:
        """What is the test's."""
        for sock in (self.ours, self.supervisor, self.far):
            sock.close()


def test_it_says_ready_serves_what_it_is_given_drains_when_told_and_says_so() -> None:
    """A connection that waits for its refusal is answered before the end; the listener takes no more."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        scene = Scene()
        assert await scene.said(requests.READY) == 0
        keeper = await scene.listen()
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, keeper.getsockname())
        with suppress(ConnectionResetError):
            assert await loop.sock_recv(client, 1) == b"", "without a snapshot it is refused"
        began = loop.time()
        scene.supervisor.send(requests.encode_beat(requests.DRAIN))
        await scene.said(requests.DRAINED)
        assert loop.time() - began >= limits.ACCEPTED_S - 0.001, "what was accepted in the last turn is not a connection yet"
        await scene.serving
        scene.close()
        keeper.close()
        client.close()

    run(work)


def test_a_worker_whose_supervisor_is_gone_takes_no_more_and_tells_the_next() -> None:
    """By when it will have ended: as after a reload, or sooner where it was told so before."""

    async def work() -> None:
        scene = Scene()
        line, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        socket.send_fds(scene.supervisor, [requests.encode_beat(requests.LIFELINE)], [end.fileno()])
        end.close()
        now = asyncio.get_running_loop().time()
        scene.supervisor.send(requests.encode_beat(requests.DRAIN, 50))
        scene.supervisor.close()
        scene.supervisor = line
        assert 49 < await scene.said(requests.ORPHANED) - now < 55
        await scene.said(requests.DRAINED)
        await scene.serving
        scene.plane._supervisor._sock.close()
        scene.close()

    run(work)


def test_a_worker_that_cannot_take_its_sockets_ends() -> None:
    """None came beside the message, or one that nobody can listen at: who waits in the queue is not left waiting."""

    async def lacks() -> None:
        scene = Scene()
        scene.supervisor.send(requests.encode_listen([("outbound", 4)]))
        with pytest.raises(ValueError, match="zip"):
            await scene.serving
        scene.close()

    async def cannot_listen() -> None:
        scene = Scene()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as no_stream:
            await scene.plane._open([("outbound", 4, no_stream)])
        with pytest.raises(OSError, match="not available"):
            await scene.serving
        scene.close()

    run(lacks)
    run(cannot_listen)


def test_it_says_what_it_knows() -> None:
    """Nothing after a while, so that it may serve all the same; then that it decides as well as others."""

    async def work() -> None:
        scene = Scene()
        began = asyncio.get_running_loop().time()
        assert await scene.said(requests.READY) == 0
        assert asyncio.get_running_loop().time() - began >= limits.SNAPSHOT_WAIT_S - 0.001  # the clock is in milliseconds
        web = Address("127.0.0.2", 80)
        scene.far.sendall(encode_frame(SnapshotFrame(encode_snapshot(snapshot_of("host1", 15008, web)))))
        scene.far.sendall(encode_frame(KeysFrame(KeyRing("mesh.example", ""))))
        assert await scene.said(requests.READY) == 1
        scene.supervisor.close()
        await scene.serving
        scene.close()

    run(work)


def test_without_keys_it_is_ready_all_the_same_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh whose CA is away has none to give to anybody."""
    monkeypatch.setattr(limits, "SVID_WAIT_S", 0.1)

    async def work() -> None:
        scene = Scene()
        web = Address("127.0.0.2", 80)
        scene.far.sendall(encode_frame(SnapshotFrame(encode_snapshot(snapshot_of("host1", 15008, web)))))
        assert [await scene.said(requests.READY), await scene.said(requests.READY)] == [0, 1]
        scene.supervisor.close()
        await scene.serving
        scene.close()

    run(work)


def test_a_worker_without_a_supervisor_finishes() -> None:
    """It serves what is open and ends; nobody would watch over it."""

    async def work() -> None:
        scene = Scene()
        await asyncio.sleep(0)
        scene.supervisor.close()
        await scene.serving
        scene.close()

    run(work)


def test_what_is_left_when_a_drain_is_over_is_closed_evenly_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all in one moment; a drain that gets less time later ends sooner."""
    monkeypatch.setattr(limits, "CUT_SPREAD_S", 0.3)

    async def work() -> None:
        scene, loop = Scene(), asyncio.get_running_loop()
        ends = [Held() for _ in range(3)]
        relays = [scene.plane._live.open(end, "outbound", Address("127.0.0.1", 1), "127.0.0.2:80") for end in ends]
        began = loop.time()
        scene.supervisor.send(requests.encode_beat(requests.DRAIN, 1000))
        scene.supervisor.send(requests.encode_beat(requests.DRAIN, 1))
        await scene.serving
        assert 1.0 <= ends[0].closed_at - began
        assert ends[2].closed_at - ends[0].closed_at >= 0.19
        assert {(relay.row.reason, relay.row.side) for relay in relays} == {(Reason.DRAINED, Side.AGENT)}
        scene.close()

    run(work)


class Held(TcpEnd):
    """An end that stays open until it is reset."""

    closed_at = 0.0

    def reset(self) -> None:
        """It notes when."""
        self.closed_at = asyncio.get_running_loop().time()


@pytest.mark.parametrize(
    ("doors", "families"),
    [
        ([("outbound", "127.0.0.1"), ("outbound", "::1")], set()),
        ([("outbound", "127.0.0.1"), ("inbound", "127.0.0.1"), ("tunnel", "127.0.0.1")], {4}),
        ([("inbound", "127.0.0.1"), ("tunnel", "::1")], {4, 6}),
    ],
)
def test_sockets_are_asked_for_in_the_families_in_which_callers_can_come(
    doors: list[tuple[Literal["outbound", "inbound", "tunnel"], str]], families: set[int]
) -> None:
    """A host without IPv6 cannot make such sockets: to ask for them would go on for ever."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        ours, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, far = socket.socketpair()
        supervisor.setblocking(False)
        plane = Plane("b1", config_of("host1", "127.0.0.1"), ours, control)
        for kind, ip in doors:
            await plane.listen(kind, socket.create_server((ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET))
        serving = asyncio.create_task(plane.serve())
        asked = set()
        while (message := await loop.sock_recv(supervisor, 512))[0] != requests.READY:
            asked |= {requests.decode_family(message)} if message[0] == requests.WANT_SOCKETS else set()
        assert asked == families
        supervisor.send(requests.encode_beat(requests.DRAIN))
        await serving
        for sock in (ours, supervisor, control, far):
            sock.close()

    run(work)


def test_a_peer_that_does_not_say_goodbye_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last connection has ended, nothing moves any more, and a tunnel is still open: the drain is over."""
    monkeypatch.setattr(limits, "FAREWELL_S", 0.01)

    async def work() -> None:
        ours, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, far = socket.socketpair()
        plane = Plane("b1", config_of("host1", "127.0.0.1"), ours, control)
        plane._live.is_quiet.clear()
        serving = asyncio.create_task(plane.serve())
        await asyncio.sleep(0)
        supervisor.send(requests.encode_beat(requests.DRAIN))
        await serving
        for sock in (ours, supervisor, control, far):
            sock.close()

    run(work)


def test_a_worker_that_says_goodbye_hears_of_another_drain_and_of_its_supervisor_s_end() -> None:
    """Neither is a defect, and whoever holds its lifeline is told."""

    async def work() -> None:
        scene = Scene()
        defects: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: defects.append(context))
        line, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        socket.send_fds(scene.supervisor, [requests.encode_beat(requests.LIFELINE)], [end.fileno()])
        end.close()
        scene.plane._live.is_quiet.clear()  # as with a tunnel that has not said goodbye yet
        scene.supervisor.send(requests.encode_beat(requests.DRAIN, 50))
        await asyncio.sleep(2 * limits.ACCEPTED_S)
        scene.supervisor.send(requests.encode_beat(requests.DRAIN, 20))
        scene.supervisor.close()
        scene.supervisor = line
        await scene.said(requests.ORPHANED)
        scene.plane._live.is_quiet.set()
        await scene.serving
        assert defects == []
        scene.plane._supervisor._sock.close()
        scene.close()

    run(work)
