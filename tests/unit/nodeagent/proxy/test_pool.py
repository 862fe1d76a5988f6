"""Which tunnel a call gets."""

import asyncio
from collections.abc import Callable

import pytest

from nodeagent import limits
from nodeagent.errors import LimitReached, NoSvid, PeerLost, PeerUnreachable
from nodeagent.model.identity import KeyRing
from nodeagent.proxy.pool import TunnelKey
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire.frames import KeysFrame
from tests.support.twohosts import TRUST_DOMAIN, TwoHosts, key_ring, run


def key_of(hosts: TwoHosts) -> TunnelKey:
    address, port = hosts.door.getsockname()
    return TunnelKey("shop", "web", hosts.web._replace(ip=address, port=port), "host2")


def test_everybody_waits_for_the_same_attempt_and_shares_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty callers towards a host that is away: one handshake, fifty sentences; the next call tries again."""
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            silent = hosts.door.dup()
            hosts.two.welcome.close()
            hosts.door = silent  # connections are made, and nobody takes them
            calls = (hosts.one.pool.tunnel(key_of(hosts)) for _ in range(50))
            failed = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in failed} == {PeerUnreachable}
            hosts.door.setblocking(False)
            knocks = 0
            while True:
                try:
                    hosts.door.accept()[0].close()
                except BlockingIOError:
                    break
                knocks += 1
            assert knocks == 1
            hosts.two.welcome.listen(hosts.door)
            assert (await hosts.one.pool.tunnel(key_of(hosts))).has_room

    run(work)


def test_a_full_pool_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams times sessions, then the sentence that says so."""
    monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 1)

    async def work() -> None:
        async with TwoHosts() as hosts:
            for _ in range(limits.SESSIONS_PER_KEY):
                await hosts.call()
            with pytest.raises(LimitReached, match="full"):
                await hosts.call()

    run(work)


def renew(hosts: TwoHosts) -> None:
    """host1 gets a new certificate."""
    hosts.one.live.keys.replace(key_ring(hosts.ca, "shop"))
    hosts.one.pool.retire_stale()


def expire(hosts: TwoHosts) -> None:
    """The certificates of the tunnels that host1 has opened come to their end."""
    for tunnel in hosts.one.live.tunnels:
        tunnel.expires_at = hosts.one.live.now()


def shut_down(hosts: TwoHosts) -> None:
    """Every tunnel is told to take no more."""
    for tunnel in hosts.one.live.tunnels:
        tunnel.retire()


@pytest.mark.parametrize("end", [renew, expire, shut_down])
def test_tunnels_that_only_finish_what_they_carry_are_no_limit(end: Callable[[TwoHosts], None]) -> None:
    """A connection that outlives every certificate keeps each of its tunnels open, and costs nobody a call."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            ends = []
            for _ in range(limits.SESSIONS_PER_KEY + 2):
                ends.append(await hosts.call())
                end(hosts)
            carried = [len(tunnel.session.streams) for tunnel in hosts.one.live.tunnels]
            assert carried == [1] * len(ends)

    run(work)


def test_the_tunnel_with_the_fewest_streams_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two sessions share the load."""
    monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            ends = [await hosts.call() for _ in range(3)]
            monkeypatch.setattr(limits, "STREAMS_PER_SESSION", 100)
            first = await hosts.one.pool.tunnel(key_of(hosts))
            assert len(first.session.streams) == 1
            assert len(ends) == 3

    run(work)


def test_a_certificate_that_comes_in_time_is_waited_for() -> None:
    """A workload's first call asks control for its certificate."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            ring = key_ring(hosts.ca, "shop")
            hosts.one.live.keys.replace(KeyRing(TRUST_DOMAIN, ring.bundle_pem))
            calling = asyncio.create_task(hosts.call())
            while not hosts.one.control._waiting:
                await asyncio.sleep(0)
            await hosts.one.control._take(KeysFrame(ring))
            assert (await calling).stream is not None

    run(work)


def test_a_certificate_that_never_comes_is_no_svid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a hang."""
    monkeypatch.setattr(limits, "SVID_WAIT_S", 0.02)

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.one.live.keys.replace(KeyRing(TRUST_DOMAIN, ""))
            with pytest.raises(NoSvid, match="nodeagent certs"):
                await hosts.call()

    run(work)


def test_a_peer_that_ends_each_tunnel_at_once_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two handshakes for the caller, not thousands."""
    made = 0

    async def work() -> None:
        nonlocal made
        async with TwoHosts() as hosts:
            pool = hosts.one.pool
            handshake = pool._handshake

            async def stillborn(key: TunnelKey) -> Tunnel:
                nonlocal made
                made += 1
                tunnel = await handshake(key)
                tunnel.session.shut_down()
                return tunnel

            monkeypatch.setattr(pool, "_handshake", stillborn)
            with pytest.raises(PeerLost, match="as soon as it was open"):
                await pool.tunnel(key_of(hosts))

    run(work)
    assert made == limits.TUNNEL_TRIES


def test_tunnels_that_never_end_are_a_limit_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that retires each one and keeps it open does not fill this worker."""
    monkeypatch.setattr(limits, "TUNNELS_PER_KEY", 3)

    async def work() -> None:
        async with TwoHosts() as hosts:
            for _ in range(3):
                await hosts.call()
                shut_down(hosts)
            with pytest.raises(LimitReached, match="finish what they carry"):
                await hosts.call()

    run(work)


def test_only_so_many_wait_for_one_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that answers nobody gathers no crowd without end."""
    monkeypatch.setattr(limits, "STREAMS_WAITING", 3)

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.door, listened = hosts.door.dup(), hosts.door
            hosts.two.welcome.close()
            assert listened.fileno() == -1
            waiting = [asyncio.create_task(hosts.one.pool.tunnel(key_of(hosts))) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(LimitReached, match="3 connections wait"):
                await hosts.one.pool.tunnel(key_of(hosts))
            hosts.two.welcome.listen(hosts.door)
            assert len({id(tunnel) for tunnel in await asyncio.gather(*waiting)}) == 1

    run(work)
