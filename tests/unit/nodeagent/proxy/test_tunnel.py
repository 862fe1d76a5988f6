"""A tunnel's own affairs: liveness, retirement, what it says of itself."""

import asyncio
import ctypes
import time

import pytest

from nodeagent import limits
from nodeagent.errors import AgentError, PeerLost, PeerUnreachable, Reason
from nodeagent.proxy import pool
from nodeagent.proxy.tunnel import Tunnel
from nodeagent.wire.connect import RESET_CODES
from nodeagent.wire.stream import LOST, Budget
from tests.support.loop import until
from tests.support.twohosts import TwoHosts, run


async def gone(tunnel: Tunnel) -> None:
    """Returns when the tunnel's connection has closed."""
    lost = asyncio.Event()
    tunnel.on_lost.append(lambda _: lost.set())
    if tunnel.transport:
        await lost.wait()


def test_it_says_what_it_carries() -> None:
    """Both sides, for `status`."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            assert (ours.row().source, ours.row().destination, ours.row().peer) == ("shop", "web", "host2")
            assert (ours.row().side, ours.row().streams) == ("client", 1)
            assert (theirs.row().source, theirs.row().destination, theirs.row().peer) == ("shop", "web", "host1")
            assert theirs.row().side == "server"

    run(work)


def test_a_retired_tunnel_closes_when_its_last_stream_has_ended() -> None:
    """Not before, and both sides."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            ours.retire()
            await hosts.accept()
            assert ours.transport is not None
            end.reset()
            await asyncio.gather(gone(ours), gone(theirs))
            await asyncio.gather(hosts.one.live.is_quiet.wait(), hosts.two.live.is_quiet.wait())

    run(work)


def test_a_call_that_was_on_its_way_when_its_tunnel_retired_is_served() -> None:
    """Whoever accepted the tunnel waits for it, though it carries nothing; then it is closed, and the next call opens another."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            (await hosts.call()).reset()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            while theirs.session.streams:
                await asyncio.sleep(0)
            began = asyncio.get_running_loop().time()
            calling = asyncio.create_task(hosts.call())
            while not ours.session.streams:
                await asyncio.sleep(0)
            ours._flush()
            theirs.retire()
            end = await calling
            assert ours.transport is not None
            assert end.stream in ours.session.streams.values()
            end.reset()
            await gone(theirs)
            assert asyncio.get_running_loop().time() - began < limits.RETIRE_S + 1
            await hosts.call()
            assert ours not in hosts.one.live.tunnels

    run(work)


def test_a_call_into_a_tunnel_that_retired_a_while_ago_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a peer that was told and goes on; what was open does, too."""
    monkeypatch.setattr(limits, "RETIRE_S", 0.05)

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            monkeypatch.setattr(theirs.session, "shut_down", lambda: setattr(theirs.session, "is_closing", True))  # nothing is told
            theirs.retire()
            while theirs.session.takes_more:
                await asyncio.sleep(0)
            assert ours.has_room
            with pytest.raises(AgentError):
                await hosts.call()
            assert len(theirs.session.streams) == 1

    run(work)


@pytest.mark.parametrize("is_stuck", [False, True])
def test_a_peer_that_is_dismissed_hears_what_its_streams_were_told(*, is_stuck: bool) -> None:
    """One that takes nothing is not waited for: to it the tunnel is lost."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            (stream,) = theirs.session.streams.values()
            if is_stuck:
                theirs.pause_writing()
            stream.reset(RESET_CODES[Reason.REVOKED])
            theirs.dismiss("as told")
            assert (theirs.session.failure, theirs.session.streams) == ("as told", {})
            await asyncio.gather(gone(ours), gone(theirs))
            assert end.reset_code == (LOST if is_stuck else RESET_CODES[Reason.REVOKED])

    run(work)


def test_a_peer_that_answers_pings_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nothing is said."""
    monkeypatch.setattr(limits, "PING_S", 0.01)
    monkeypatch.setattr(limits, "PING_TIMEOUT_S", 5.0)

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (ours,) = hosts.one.live.tunnels
            while ours.session.pongs < 3:
                await asyncio.sleep(0.005)
            assert ours.transport is not None

    run(work)


def test_a_peer_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its streams are told that it is lost."""
    monkeypatch.setattr(limits, "PING_S", 0.01)
    monkeypatch.setattr(limits, "PING_TIMEOUT_S", 0.03)

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            theirs.transport.pause_reading()
            await gone(ours)
            assert end.reset_code == LOST

    run(work)


def test_a_peer_is_mute_only_where_nothing_of_it_waits_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that had no turn itself does not take that for the peer's silence."""
    monkeypatch.setattr(limits, "CALL_LOOK_S", 0.0)
    monkeypatch.setattr(limits, "CALL_SILENT_S", 0.2)

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            theirs.transport.pause_reading()
            while ours._asked_at <= ours._heard_at:  # a clock of milliseconds
                ours.ask()
                await asyncio.sleep(0.001)
            await until(lambda: ours.is_mute, "its silence")
            ours.transport.pause_reading()
            theirs.session.ping()
            await until(lambda: not ours.is_mute, "a word of it in our queue")
            assert ours._heard_at < ours._asked_at
            theirs.transport.resume_reading()
            ours.transport.resume_reading()
            await until(lambda: ours._heard_at > ours._asked_at, "its answer")

    run(work)


def send_reset(fd: int) -> None:
    """At once, without closing the descriptor. Source: connect(2), AF_UNSPEC."""
    assert ctypes.CDLL(None).connect(fd, bytes(16), 16) == 0


def test_a_reset_that_comes_together_with_data_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not by a ping that finds nobody."""
    monkeypatch.setattr(limits, "PING_S", 1000.0)

    async def work() -> None:
        async with TwoHosts() as hosts:
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            ours.transport.write(bytes(2))  # the beginning of a frame, which asks for no answer
            send_reset(ours.transport.get_extra_info("socket").fileno())
            await gone(theirs)
            assert not hosts.two.live.relays

    run(work)


def test_an_unused_tunnel_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the side that opened it."""
    monkeypatch.setattr(limits, "PING_S", 0.01)
    monkeypatch.setattr(limits, "SESSION_IDLE_S", 0.02)

    async def work() -> None:
        async with TwoHosts() as hosts:
            end = await hosts.call()
            (ours,) = hosts.one.live.tunnels
            end.reset()
            await gone(ours)

    run(work)


def test_before_it_is_connected_it_has_no_room() -> None:
    """A stream must not be queued into nothing."""

    async def work() -> None:
        assert not Tunnel(Budget(), time.time, None).has_room

    run(work)


def break_down(tunnel: Tunnel, **_: object) -> None:
    """A check of a peer that has a defect."""
    raise RuntimeError(f"no idea who {tunnel.peer} is")


def test_a_caller_whose_check_breaks_down_uses_no_tunnel(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever has not been checked is refused, and the defect is reported."""
    monkeypatch.setattr(pool, "_demand", break_down)

    async def work() -> None:
        async with TwoHosts() as hosts:
            with pytest.raises(AgentError, match="a defect of this agent: RuntimeError: no idea who host2 is"):
                await hosts.call()
            assert not hosts.one.live.tunnels

    run(work)
    assert "RuntimeError: no idea who host2 is" in capfd.readouterr().err


def test_a_callee_whose_check_breaks_down_takes_no_stream(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same on the other side."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            monkeypatch.setattr(hosts.two.welcome, "_name_caller", break_down)
            with pytest.raises((PeerLost, PeerUnreachable)):
                await hosts.call()
            assert not hosts.two.live.tunnels
            records = hosts.two.live.records.take()
            assert records is not None
            assert {(row.direction, row.reason) for row in records.rows} == {("tunnel", "internal")}
            assert "a defect of this agent: RuntimeError: no idea who host1 is" in records.rows[0].error

    run(work)
    assert "RuntimeError: no idea who host1 is" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("left_s", "leeway_s"), [(86_400.0, limits.CLOCK_SKEW_S), (4.0, 4.0 * limits.CLOCK_SKEW_SHARE), (0.0, 0.0)]
)
def test_whoever_opened_it_stops_a_little_early_and_the_other_side_is_patient(left_s: float, leeway_s: float) -> None:
    """So that two hosts whose clocks differ do not disagree about whether it has ended."""

    async def work() -> None:
        clock = [1000.0]
        opened = Tunnel(Budget(), lambda: clock[0], None)
        accepted = Tunnel(Budget(), lambda: clock[0], lambda *_: None)  # type: ignore[arg-type,return-value]
        opened.expires_at = accepted.expires_at = 1000.0 + left_s
        for tunnel, ends in ((opened, 1000.0 + left_s - leeway_s), (accepted, 1000.0 + left_s + leeway_s)):
            clock[0] = ends - 0.01
            assert not tunnel.has_expired or left_s == 0.0
            clock[0] = ends
            assert tunnel.has_expired

    run(work)


def test_what_a_lost_peer_has_sent_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the TLS library's buffer holds, and a reset behind it: that is nobody's defect."""
    monkeypatch.setattr(limits, "PING_S", 1000.0)
    unknown = b"\x00\x40\x00\xf0\x00\x00\x00\x00\x00" + bytes(0x4000)  # a frame that whoever does not know it leaves out

    async def work() -> None:
        async with TwoHosts() as hosts:
            complaints: list[dict[str, object]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            theirs.transport.pause_reading()
            ours.transport.write(unknown * (4 * limits.TLS_BIO_BYTES // len(unknown)))
            assert ours.transport.get_write_buffer_size() == 0
            send_reset(ours.transport.get_extra_info("socket").fileno())
            theirs.transport.resume_reading()
            await gone(theirs)
            assert complaints == []

    run(work)
