"""A worker's data plane as a whole: ready, serving, draining."""

import asyncio
import socket
from typing import Literal

import pytest

from nodeagent import limits
from nodeagent.catalog.codec import encode_snapshot
from nodeagent.model.address import Address
from nodeagent.proxy.plane import Plane
from nodeagent.wire import requests
from nodeagent.wire.frames import SnapshotFrame, encode_frame
from tests.support.twohosts import config_of, listening, run, snapshot_of


async def said(sock: socket.socket, kind: int) -> None:
    """Returns when the worker has said `kind`."""
    loop = asyncio.get_running_loop()
    while (await loop.sock_recv(sock, 512))[0] != kind:
        pass


def test_it_says_ready_drains_when_told_and_says_so() -> None:
    """A connection that waits for its refusal is answered before the end; the listener takes no more."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        ours, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, far = socket.socketpair()
        supervisor.setblocking(False)
        plane = Plane(1, config_of("host1", "127.0.0.1"), ours, control)
        listener = listening("127.0.0.1")
        keeper = listener.dup()
        await plane.listen("outbound", listener)
        door = listening("127.0.0.1")
        await plane.listen("tunnel", door)
        serving = asyncio.create_task(plane.serve())
        await said(supervisor, requests.READY)
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, keeper.getsockname())
        try:
            assert await loop.sock_recv(client, 1) == b"", "without a snapshot it is refused"
        except ConnectionResetError:
            supervisor.send(requests.encode_beat(requests.DRAIN))
        await said(supervisor, requests.DRAINED)
        await serving
        for sock in (ours, supervisor, control, far, keeper, client, door):
            sock.close()

    run(work)


def test_it_accepts_when_it_can_decide_and_without_a_snapshot_after_a_while() -> None:
    """What waits in its queues is not refused while the first snapshot is on its way."""

    async def work() -> None:
        ours, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, far = socket.socketpair()
        plane = Plane(1, config_of("host1", "127.0.0.1"), ours, control)
        began = asyncio.get_running_loop().time()
        await plane.informed()
        assert asyncio.get_running_loop().time() - began >= limits.SNAPSHOT_WAIT_S
        web = Address("127.0.0.2", 80)
        far.sendall(encode_frame(SnapshotFrame(encode_snapshot(snapshot_of("host1", 15008, web)))))
        await asyncio.get_running_loop().create_task(plane._live.has_snapshot.wait())
        began = asyncio.get_running_loop().time()
        await plane.informed()
        assert asyncio.get_running_loop().time() - began < limits.SNAPSHOT_WAIT_S
        for sock in (ours, supervisor, control, far):
            sock.close()

    run(work)


def test_a_worker_without_a_supervisor_finishes() -> None:
    """It serves what is open and ends; nobody would watch over it."""

    async def work() -> None:
        ours, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control, far = socket.socketpair()
        plane = Plane(1, config_of("host1", "127.0.0.1"), ours, control)
        serving = asyncio.create_task(plane.serve())
        await asyncio.sleep(0)
        supervisor.close()
        await serving
        for sock in (ours, control, far):
            sock.close()

    run(work)


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
        plane = Plane(1, config_of("host1", "127.0.0.1"), ours, control)
        for kind, ip in doors:
            await plane.listen(kind, socket.create_server((ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET))
        serving = asyncio.create_task(plane.serve())
        asked = set()
        while (message := await loop.sock_recv(supervisor, 512))[0] != requests.READY:
            asked.add(requests.decode_family(message))
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
        plane = Plane(1, config_of("host1", "127.0.0.1"), ours, control)
        plane._live.is_quiet.clear()
        serving = asyncio.create_task(plane.serve())
        await asyncio.sleep(0)
        supervisor.send(requests.encode_beat(requests.DRAIN))
        await serving
        for sock in (ours, supervisor, control, far):
            sock.close()

    run(work)
