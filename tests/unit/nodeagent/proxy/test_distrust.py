"""Tunnels that rest on a revoked certificate or a removed root are cut; the others are left alone."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from certs.local_ca import LocalCa
from certs.serial import tag_in
from certs.standing import Standing
from nodeagent.errors import AgentError, Reason, Revoked, Side
from nodeagent.model.address import Address
from nodeagent.model.identity import KeyRing
from nodeagent.model.outcome import ConnectionRow
from nodeagent.proxy.distrust import cut_distrusted
from nodeagent.proxy.tunnel import Tunnel
from tests.support.twohosts import TRUST_DOMAIN, HostPlane, TwoHosts, key_ring, run


def ring_of(hosts: TwoHosts, service: str, *, roots: str = "", revoked: tuple[str, ...] = (), by: Any = None) -> KeyRing:
    """A fresh ring for a host: its service's certificate, the roots that it believes, and what it refuses."""
    fresh = key_ring(by or hosts.ca, service)
    return KeyRing(TRUST_DOMAIN, roots or hosts.ca.cert_pem, fresh.svids, revoked)


def tag(plane: HostPlane) -> str:
    """Of the serial of the certificate that a host speaks by."""
    return tag_in(plane.live.keys.serial("shop" if plane.live.config.host.name == "host1" else "web"))


async def follow(plane: HostPlane, ring: KeyRing) -> None:
    """As a worker does that gets new keys."""
    plane.live.keys.replace(ring)
    await cut_distrusted(plane.live)


def rows(plane: HostPlane) -> list[ConnectionRow]:
    """What it recorded and nobody has taken yet."""
    records = plane.live.records.take()
    return records.rows if records else []


@pytest.mark.parametrize(("who", "peer"), [("one", "web on host2"), ("two", "shop on host1")])
def test_a_revoked_peer_is_cut_on_either_side(who: str, peer: str) -> None:
    """By whoever hears of it first; the open connection ends with that reason, and so does the tunnel's own row."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hearer, other = (hosts.one, hosts.two) if who == "one" else (hosts.two, hosts.one)
            await hosts.call()
            (tunnel,) = hearer.live.tunnels
            own = "shop" if who == "one" else "web"
            await follow(hearer, ring_of(hosts, own, revoked=("00", tag(other))))
            assert "revoked" in tunnel.session.failure
            told = rows(hearer)
            assert {(row.reason, row.side) for row in told} == {(Reason.REVOKED, Side.MESH)}
            assert len(told) == (2 if who == "two" else 1), "the tunnel's row, and that of the stream it had accepted"
            assert all(f"the certificate of {peer} was revoked" in row.error for row in told)
            await gone(hearer)

    run(work)


async def gone(plane: HostPlane) -> None:
    """Returns when it has no tunnel any more."""
    while plane.live.tunnels:
        await asyncio.sleep(0)


def test_the_other_agent_records_the_reason_too() -> None:
    """The tunnel says why before it is cut, and is heard: it has proved who it is."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            client = await hosts.client()
            relay = hosts.one.live.open(client.end, "outbound", Address("127.0.0.1", 1), str(hosts.web))
            relay.link(await hosts.call())
            await follow(hosts.two, ring_of(hosts, "web", revoked=(tag(hosts.one),)))
            await gone(hosts.one)
            assert (relay.row.reason, relay.row.side) == (Reason.REVOKED, Side.MESH)
            assert "the agent at the other end ended it" in relay.row.error

    run(work)


def test_whose_own_certificate_was_revoked_cuts_too() -> None:
    """It would be refused by every peer that has heard."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            await follow(hosts.one, ring_of(hosts, "shop", revoked=(tag(hosts.one),)))
            await gone(hosts.one)
            assert "shop on this host was revoked" in rows(hosts.one)[0].error

    run(work)


def test_a_removed_root_takes_its_tunnels_with_it_and_an_added_one_none() -> None:
    """Overlap first, then the end of the old root."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            other = LocalCa.create(TRUST_DOMAIN, datetime.now(UTC))
            both = hosts.ca.cert_pem + other.cert_pem
            await hosts.call()
            await follow(hosts.two, ring_of(hosts, "web", roots=both, by=other))
            await follow(hosts.one, ring_of(hosts, "shop", roots=both))
            assert len(hosts.one.live.tunnels) == len(hosts.two.live.tunnels) == 1
            await follow(hosts.one, ring_of(hosts, "shop", roots=other.cert_pem, by=other))
            await gone(hosts.one)
            assert "is not believed any more" in rows(hosts.one)[0].error

    run(work)


@pytest.mark.parametrize("revoked", [(), ("4a:00:00:00:00:00:00:00",)])
def test_what_is_in_good_standing_is_left_alone(revoked: tuple[str, ...]) -> None:
    """Renewals and other hosts' revocations cut nobody."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            await follow(hosts.one, ring_of(hosts, "shop", revoked=revoked))
            await follow(hosts.two, ring_of(hosts, "web", revoked=revoked))
            assert len(hosts.one.live.tunnels) == len(hosts.two.live.tunnels) == 1
            assert not end.is_closed

    run(work)


def test_a_revoked_callee_is_refused_in_the_handshake() -> None:
    """The caller is told why."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.one.live.keys.replace(ring_of(hosts, "shop", revoked=(tag(hosts.two),)))
            with pytest.raises(Revoked, match="web on host2 was revoked"):
                await hosts.call()
            assert hosts.one.live.tunnels == set()

    run(work)


def test_a_revoked_caller_is_refused_in_the_handshake() -> None:
    """Before its first stream is read; the callee records why."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            hosts.two.live.keys.replace(ring_of(hosts, "web", revoked=(tag(hosts.one),)))
            with pytest.raises(AgentError):
                await hosts.call()
            while not (told := rows(hosts.two)):
                await asyncio.sleep(0)
            assert told[0].reason == Reason.REVOKED
            assert "shop on host1 was revoked" in told[0].error
            assert hosts.two.live.tunnels == set()

    run(work)


@pytest.mark.parametrize("change", ["revoked", "root"])
def test_keys_that_change_during_a_handshake_are_asked_again_before_it_counts(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was good when the handshake began may be worth nothing when it ends."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            other = LocalCa.create(TRUST_DOMAIN, datetime.now(UTC))
            refused = {
                "revoked": ring_of(hosts, "shop", revoked=(tag(hosts.two),)),
                "root": ring_of(hosts, "shop", roots=other.cert_pem, by=other),
            }
            made = Tunnel.connection_made

            def late(tunnel: Tunnel, transport: asyncio.BaseTransport) -> None:
                made(tunnel, transport)
                if tunnel.is_client:
                    hosts.one.live.keys.replace(refused[change])

            monkeypatch.setattr(Tunnel, "connection_made", late)
            with pytest.raises(Revoked):
                await hosts.call()
            assert hosts.one.live.tunnels == set()

    run(work)


def test_a_root_that_left_while_the_handshake_was_verified_with_it_vouches_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer is measured by the roots that OpenSSL was given, not by those of the moment."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            other = LocalCa.create(TRUST_DOMAIN, datetime.now(UTC))
            made = Tunnel.connection_made

            def late(tunnel: Tunnel, transport: asyncio.BaseTransport) -> None:
                if tunnel.is_client:
                    hosts.one.live.keys.replace(ring_of(hosts, "shop", roots=other.cert_pem, by=other))
                made(tunnel, transport)

            monkeypatch.setattr(Tunnel, "connection_made", late)
            with pytest.raises(Revoked, match="not believed any more"):
                await hosts.call()

    run(work)


def test_a_defect_saves_no_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ends all the same."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (tunnel,) = hosts.one.live.tunnels
            reported: list[Exception] = []
            monkeypatch.setattr(hosts.one.live, "report", reported.append)

            def broken(_why: str) -> None:
                raise ZeroDivisionError

            monkeypatch.setattr(tunnel, "dismiss", broken)
            await follow(hosts.one, ring_of(hosts, "shop", revoked=(tag(hosts.two),)))
            while hosts.one.live.tunnels:
                await asyncio.sleep(0)
            assert [type(error) for error in reported] == [ZeroDivisionError]

    run(work)


PAD = bytes(9) * 3
BROKEN = {
    "a head of no stream": (b"\x00\x00\x00\x01\x04\x00\x00\x00\x00", "HTTP/2 error 1 PROTOCOL_ERROR: request HEADERS: stream_id == 0"),
    "too large a frame": (b"\x10\x00\x00\x00\x00\x00\x00\x00\x01" + PAD, "HTTP/2 error 6 FRAME_SIZE_ERROR: too large frame size"),
    "bad HPACK": (b"\x00\x00\x07\x01\x04\x00\x00\x00\x63" + b"\xff" * 7, "HTTP/2 error 9 COMPRESSION_ERROR"),
    "a flood": ((b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)) * 30_000, "HTTP/2 error 11 ENHANCE_YOUR_CALM"),
}


@pytest.mark.parametrize(("data", "error"), BROKEN.values(), ids=BROKEN)
def test_a_tunnel_in_which_http2_is_broken_leaves_one_row(data: bytes, error: str) -> None:
    """Besides those of its connections: it may carry none; with the peer's host, and what was wrong, on either side."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            while hosts.two.live.relays:
                await asyncio.sleep(0)
            rows(hosts.two)
            (ours,) = hosts.one.live.tunnels
            caller = "{}:{}".format(*ours.transport.get_extra_info("sockname"))
            ours.transport.write(data)
            await gone(hosts.two)
            await gone(hosts.one)
            (row,) = rows(hosts.two)
            assert (row.direction, row.reason, row.side) == ("tunnel", Reason.PEER_PROTOCOL, Side.DOWNSTREAM)
            assert (row.source, row.destination, row.peer, row.client) == ("shop", "web", "host1", caller)
            assert f"HTTP/2 was broken in the tunnel shop -> web, host1 at {caller}: {error}" in row.error
            assert {row.side for row in rows(hosts.one)} <= {Side.UPSTREAM}

    run(work)


def test_a_tunnel_that_ends_as_tunnels_do_leaves_no_row() -> None:
    """Its connections have theirs."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            while hosts.two.live.relays:
                await asyncio.sleep(0)
            rows(hosts.two)
            (ours,) = hosts.one.live.tunnels
            ours.retire()
            await gone(hosts.two)
            assert rows(hosts.two) == rows(hosts.one) == []

    run(work)


def test_keys_that_change_twice_in_a_row_record_a_tunnel_once() -> None:
    """The second look begins while the first is cutting."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            live = hosts.one.live
            for name in "abc":
                tunnel = Tunnel(live.budget, live.now, None)
                tunnel.standings = (Standing(name, "aa", frozenset({"gone"}), is_exact=True),)
                live.keep_tunnel(tunnel)
            await asyncio.gather(cut_distrusted(live), cut_distrusted(live))
            assert len(rows(hosts.one)) == 3

    run(work)
