"""Who ends first where a worker holds too much, and what becomes of it."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.errors import Reason
from nodeagent.model.address import Address
from nodeagent.proxy.ends import StreamEnd
from nodeagent.proxy.live import Live
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.room import fullest_first, held
from nodeagent.wire.stream import Headers, Stream
from tests.support.twohosts import TwoHosts, config_of, run


class Owner:
    """A session that does nothing."""

    def respond(self, stream: Stream, headers: Headers, *, end: bool) -> None: ...
    def wrote(self, stream: Stream, size: int) -> None: ...
    def reset(self, stream: Stream, code: int) -> None: ...
    def consumed(self, stream: Stream, size: int) -> None: ...


def holding(live: Live, peer: str, size: int) -> Relay:
    """A connection from that peer of which so many bytes are held."""
    end = StreamEnd()
    end.stream = Stream(Owner(), 1)
    end.stream.unread = size
    return live.open(end, "tunnel", Address("10.0.0.1", 1), "", peer)


def test_the_fullest_of_whoever_holds_most_comes_first() -> None:
    """A peer's many small ones go before another's single big one; what holds nothing is not there."""

    async def work() -> None:
        live = Live("b3", config_of("host1", "127.0.0.1"))
        for peer, size in (("few", 90), ("many", 30), ("many", 40), ("many", 50), ("few", 0)):
            holding(live, peer, size)
        found = [(relay.row.peer, held(relay)) for relay in fullest_first(live.relays.values())]
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
            assert most < two.budget.limit + limits.STREAM_WINDOW_BYTES
            assert {(row.reason, row.peer) for row in rows} == {(Reason.LIMIT, "host1")}
            assert all("held for a slow reader" in row.error for row in rows)
            assert two.relays, "those that hold least go on"
            assert not any(end.was_lost for end in ends)

    run(work)
