"""Who ends first where a worker holds too much, and what becomes of it."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.errors import Reason
from nodeagent.proxy.live import Live
from nodeagent.proxy.room import fullest_first
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire.connect import RESET_CODES
from nodeagent.wire.stream import Stream
from tests.support.loop import until
from tests.support.twohosts import TwoHosts, config_of, run


def holding(live: Live, peer: str, *sizes: int) -> Tunnel:
    """A tunnel from that peer of whose streams so many bytes are held."""
    tunnel = Tunnel(live.budget, live.now, None)
    tunnel.peer = peer
    for number, size in enumerate(sizes):
        stream = tunnel.session.streams[number] = Stream(tunnel.session, number)
        stream.unread = size
    return tunnel


def test_the_fullest_of_whoever_holds_most_comes_first() -> None:
    """A peer's many small ones go before another's single big one; what holds nothing is not there."""

    async def work() -> None:
        live = Live("b3", config_of("host1", "127.0.0.1"))
        tunnels = [holding(live, "few", 90, 0), holding(live, "many", 30, 40), holding(live, "many", 50), holding(live, "none")]
        found = [(tunnel.peer, stream.held) for tunnel, stream in fullest_first(tunnels)]
        assert found == [("many", 50), ("few", 90), ("many", 40), ("many", 30)]

    run(work)


def test_where_the_budget_is_spent_the_fullest_end_until_a_part_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that reads nothing, with twenty connections: both hosts write down why, and others go on."""
    monkeypatch.setattr(limits, "RELIEF_PARTS", 4)

    async def work() -> None:
        async with TwoHosts() as hosts:
            two = hosts.two.live
            two.budget.limit = 1 << 20
            ends, most = [], 0
            for _ in range(20):
                ends.append(await hosts.call())
                await hosts.accept()
            for end in ends:
                assert end.stream
                end.stream.write(bytes(8 << 20))  # more than the kernel takes for it
            rows = []
            while sum(end.reset_code != 0 for end in ends) < 12:
                await asyncio.sleep(0)
                most = max(most, two.budget.used)
                rows += records.rows if (records := two.records.take()) else []
            assert most < two.budget.limit + 2 * limits.STREAM_WINDOW_BYTES  # what one receive brings is counted before anybody ends
            assert {(row.reason, row.peer) for row in rows} == {(Reason.LIMIT, "host1")}
            assert all("held for a slow reader" in row.error for row in rows)
            assert two.relays, "those that hold least go on"
            assert not any(end.was_lost for end in ends)

    run(work)


def test_what_ended_connections_have_left_goes_before_connections_that_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that takes nothing, and whose calls are over: their bytes are its, and cost nobody else his connection."""
    monkeypatch.setattr(limits, "STREAM_WINDOW_BYTES", 1)  # of the caller's agent, which is its own choice

    async def work() -> None:
        async with TwoHosts() as hosts:
            two, loop = hosts.two.live, asyncio.get_running_loop()
            ends = []
            for _ in range(20):
                end = await hosts.call()
                sock, _ = await hosts.accept()
                end.finish()
                await loop.sock_sendall(sock, bytes(40_000))
                sock.close()
                ends.append(end)
            await until(lambda: not two.relays, "the end of all calls")
            last, (sock, _) = await hosts.call(), await hosts.accept()
            assert two.records.take()
            two.budget.limit = two.budget.used
            await loop.sock_sendall(sock, bytes(10_000))
            await until(lambda: any(end.reset_code == RESET_CODES[Reason.LIMIT] for end in ends), "one of them ends")
            assert last.reset_code == 0
            assert two.relays
            records = two.records.take()
            assert records
            assert {(row.reason, row.direction, row.peer) for row in records.rows} == {(Reason.LIMIT, "tunnel", "host1")}
            sock.close()

    run(work)
