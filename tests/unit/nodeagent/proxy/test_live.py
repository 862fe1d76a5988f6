"""A worker's state: limits, counters, and the facts that a drain waits for."""

import pytest

from nodeagent import limits
from nodeagent.errors import LimitReached, NoSnapshot
from nodeagent.model.address import Address
from nodeagent.proxy.ends import TcpEnd
from nodeagent.proxy.live import Live
from nodeagent.proxy.relay import Relay
from tests.support.twohosts import config_of, run

CLIENT = Address("10.0.0.1", 1234)


def live_of() -> Live:
    return Live("b3", config_of("host1", "127.0.0.1"))


def opened(live: Live, sent: int = 0) -> Relay:
    end = TcpEnd()
    end.received = sent
    return live.open(end, "outbound", CLIENT, "10.0.0.2:80")


def test_rows_are_numbered_per_worker_and_counted_by_direction() -> None:
    """The worker's tag makes them unique on the host."""
    live = live_of()
    assert [opened(live).row.id for _ in range(2)] == ["b3-1", "b3-2"]
    assert dict(live.opened) == {"outbound": 2}


def test_without_a_snapshot_nothing_is_decided() -> None:
    """A new agent refuses rather than guesses."""
    with pytest.raises(NoSnapshot):
        _ = live_of().snapshot


def test_traffic_counts_open_and_ended_connections() -> None:
    """A long-lived connection's bytes show before it ends, and are not counted twice after."""
    live = live_of()
    first, second = opened(live, sent=10), opened(live, sent=5)
    first.upstream = second.upstream = TcpEnd()
    assert live.traffic() == (15, 0)
    first.end_closed(first.downstream, "")
    assert live.traffic() == (15, 0)


def test_what_a_refused_client_had_sent_is_no_traffic() -> None:
    """It went nowhere; that it was sent stays in the record."""
    live = live_of()
    refused = opened(live, sent=10)
    assert live.traffic() == (0, 0)
    refused.end_closed(refused.downstream, "")
    assert (live.traffic(), refused.row.sent) == ((0, 0), 10)


def test_it_is_empty_when_the_last_relay_has_ended() -> None:
    """That is what a drain waits for."""

    async def work() -> None:
        live = live_of()
        assert live.is_empty.is_set()
        relay = opened(live)
        assert not live.is_empty.is_set()
        relay.end_closed(relay.downstream, "")
        assert live.is_empty.is_set()
        assert live.records.take().rows == [relay.row]

    run(work)


def test_limits_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many connections, or too many bytes held for slow readers."""
    live = live_of()
    monkeypatch.setattr(limits, "CONNECTIONS_PER_WORKER", 1)
    opened(live)
    live.check_room()
    opened(live)
    with pytest.raises(LimitReached, match="workers"):
        live.check_room()
    other = live_of()
    other.budget.used = limits.WORKER_BUFFER_BYTES
    with pytest.raises(LimitReached, match="slow readers"):
        other.check_room()


def test_the_last_of_a_worker_s_places_are_for_peers_with_less_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has more gets none, another host all the same; alone, and while there is plenty, nobody is counted."""
    monkeypatch.setattr(limits, "CONNECTIONS_PER_WORKER", 12)
    monkeypatch.setattr(limits, "CONNECTIONS_UNSHARED", 9)

    def called(peer: str) -> Relay:
        relay = live.open(TcpEnd(), "tunnel", CLIENT, "10.0.0.2:80", peer)
        live.check_room(peer)
        return relay

    live = live_of()
    first = [called("greedy") for _ in range(9)]
    with pytest.raises(LimitReached, match=r"10 connections of this worker are greedy's"):
        called("greedy")
    called("modest")
    opened(live)
    live.check_room()
    with pytest.raises(LimitReached, match="serves 12"):
        called("modest")
    for relay in list(live.relays.values()):
        relay.end_closed(relay.downstream, "")
    assert not live._of_peer
    assert all(relay.is_over for relay in first)
    called("greedy")


def test_a_flood_of_defects_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """The first ones are, with their sentence."""
    live = live_of()
    for number in range(100):
        live.report(ValueError(f"defect {number}"))
    err = capfd.readouterr().err
    assert "defect 0" in err
    assert "defect 99" not in err
