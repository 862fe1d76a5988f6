"""The two kinds of ends: what each passes on, and when it is closed."""

import asyncio
import socket
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.errors import Denied, PolicyChanged, Reason, Revoked
from nodeagent.proxy.end import End
from nodeagent.proxy.ends import LINGER_RESET, StreamEnd, TcpEnd
from nodeagent.wire.stream import CANCEL, LOST, Headers, Stream
from tests.support.twohosts import run


class Script:
    """A peer and relay that write down what they are told."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.peer: End | None = None
        self.relay = None
        self.received = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **facts: self.said.append((name, *args, *facts.items()))


class Owner(Script):
    """A stream's session."""


def stream_end(*, is_linked: bool = True) -> tuple[StreamEnd, Script, Owner]:
    end, peer, owner = StreamEnd(), Script(), Owner()
    end.stream = Stream(owner, 1)
    end.relay = peer
    if is_linked:
        end.peer = peer
    return end, peer, owner


def test_early_payload_waits_for_the_peer() -> None:
    """In order, its window is given back only when it was passed on, and an early end comes last."""

    async def work() -> None:
        end, peer, owner = stream_end(is_linked=False)
        end.on_data(b"one")
        end.on_data(b"two")
        end.on_end()
        assert owner.said == []
        end.peer = peer
        end.start()
        assert [said[:2] for said in peer.said if said[0] != "end_closed"] == [("send", b"one"), ("send", b"two"), ("finish",)]
        assert [said[2] for said in owner.said] == [3, 3]

    run(work)


def test_a_paused_stream_gives_no_window_back_until_it_is_resumed() -> None:
    """That is what stops the far writer."""

    async def work() -> None:
        end, _, owner = stream_end()
        end.pause()
        end.on_data(b"12345")
        assert owner.said == []
        end.resume()
        assert owner.said == [("consumed", end.stream, 5)]

    run(work)


def test_a_full_stream_pauses_its_peer_once_and_resumes_it_when_drained() -> None:
    """However much is written in between."""

    async def work() -> None:
        end, peer, _ = stream_end()
        for _ in range(3):
            end.send(b"x" * 60_000)
        assert peer.said == [("pause",)]
        end.on_drained()
        assert peer.said == [("pause",), ("resume",)]

    run(work)


def test_both_ends_make_a_clean_close() -> None:
    """In either order."""

    async def work() -> None:
        for first, second in (("on_end", "finish"), ("finish", "on_end")):
            end, peer, _ = stream_end()
            getattr(end, first)()
            assert not [said for said in peer.said if said[0] == "end_closed"]
            getattr(end, second)()
            assert ("end_closed", end, "") in peer.said

    run(work)


def test_a_reset_stream_says_whether_the_tunnel_was_lost() -> None:
    """The relay blames accordingly, and whoever waits for the answer is told."""

    async def work() -> None:
        for code, lost in ((8, False), (LOST, True)):
            end, peer, _ = stream_end()
            end.on_reset(code)
            (told,) = peer.said
            assert told[0] == "end_closed"
            assert told[-1] == ("lost", lost)
            assert isinstance(end.head.exception(), ConnectionResetError)

    run(work)


def test_an_agent_that_ends_a_stream_says_why_and_is_understood() -> None:
    """A code of ours there and back: the other relay ends by the same reason; an application's reset stays one."""

    class Ending(Script):
        reason = Reason.OK

    async def work() -> None:
        for error in (PolicyChanged("no more"), Revoked("taken back")):
            near, _, owner = stream_end()
            near.relay = relay = Ending()
            relay.reason = error.reason
            near.reset()
            code = owner.said[-1][-1]  # type: ignore[index]
            far, peer, _ = stream_end()
            far.on_reset(code)
            (told,) = peer.said
            assert (told[0], type(told[1])) == ("end_by", type(error))
        near, _, owner = stream_end()
        near.relay = Ending()
        near.reset()
        assert owner.said[-1][-1] == CANCEL  # type: ignore[index]

    run(work)


def test_a_condemned_stream_ends_by_the_reason() -> None:
    """It is its relay that ends, with both ends."""

    async def work() -> None:
        end, peer, _ = stream_end()
        error = Revoked("taken back")
        end.condemn(error)
        assert peer.said == [("end_by", error)]

    run(work)


def test_a_refusal_is_an_answer() -> None:
    """401 with the stream's end, not a reset."""

    async def work() -> None:
        end, _, owner = stream_end()
        end.refuse(Denied("no"))
        (told,) = owner.said
        headers: Headers = told[2]
        assert (told[0], dict(headers)[b":status"], told[-1]) == ("respond", b"401", ("end", True))

    run(work)


async def tcp_pair() -> tuple[TcpEnd, Script, socket.socket]:
    near, far = socket.socket(), socket.socket()
    near.bind(("127.0.0.1", 0))
    near.listen()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)  # as set_options does
    far.setblocking(False)
    far.connect_ex(near.getsockname())
    accepted, _ = near.accept()
    near.close()
    _, end = await asyncio.get_running_loop().create_connection(TcpEnd, sock=accepted)
    peer = Script()
    end.peer = end.relay = peer
    return end, peer, far


async def until(peer: Script, what: str) -> tuple[object, ...]:
    """The first thing of that name that the script was told."""
    while True:
        for said in peer.said:
            if said[0] == what:
                return said
        await asyncio.sleep(0)


def test_tcp_passes_bytes_and_the_end_of_one_direction() -> None:
    """Nothing is read before it is started; after the application's FIN the other direction goes on."""

    async def work() -> None:
        end, peer, far = await tcp_pair()
        far.send(b"hello")
        for _ in range(20):
            await asyncio.sleep(0)
        assert peer.said == []
        end.start()
        assert await until(peer, "send") == ("send", b"hello")
        far.shutdown(socket.SHUT_WR)
        await until(peer, "finish")
        end.send(b"answer")
        end.finish()
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(far, 100) == b"answer"
        assert await loop.sock_recv(far, 100) == b""
        assert await until(peer, "end_closed") == ("end_closed", end, "")
        far.close()

    run(work)


def test_a_peer_that_is_full_of_early_payload_stops_the_reading() -> None:
    """Or an application that sends without end would fill this worker's memory."""

    class Full(Script):
        def send(self, data: bytes) -> None:
            self.said.append(("send", data))
            if self.peer:
                self.peer.pause()

    async def work() -> None:
        end, _, far = await tcp_pair()
        end.peer = peer = Full()
        peer.peer = end
        end.data_received(b"early")
        end.start()
        far.send(b"later")
        for _ in range(20):
            await asyncio.sleep(0)
        assert peer.said == [("send", b"early")]
        end.resume()
        while len(peer.said) < 2:
            await asyncio.sleep(0)
        assert peer.said[1] == ("send", b"later")
        end.reset()
        far.close()

    run(work)


def test_tcp_reports_a_reset_and_makes_one() -> None:
    """RST in is an unclean close, reset() is RST out."""

    async def work() -> None:
        end, peer, far = await tcp_pair()
        end.start()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        assert "reset" in (await until(peer, "end_closed"))[2]
        end, peer, far = await tcp_pair()
        end.reset()
        await until(peer, "end_closed")
        try:
            await asyncio.get_running_loop().sock_recv(far, 1)
            was_reset = False
        except ConnectionResetError:
            was_reset = True
        far.close()
        assert was_reset

    run(work)


def test_until_both_directions_have_ended_whoever_closes_makes_a_reset() -> None:
    """Also the kernel, for a process that is gone. Accepted sockets have it of their listener."""

    async def work() -> None:
        for half in ("start", "eof_received"):
            end, _, far = await tcp_pair()
            getattr(end, half)()
            assert end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == LINGER_RESET
            end.transport.abort()
            with pytest.raises(ConnectionResetError):
                await asyncio.get_running_loop().sock_recv(far, 1)
            far.close()

    run(work)


def test_what_a_vanished_application_had_not_read_is_paid_back() -> None:
    """Else its bytes would count against window and budget for ever."""

    async def work() -> None:
        end, peer, far = await tcp_pair()
        end.start()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        await until(peer, "end_closed")
        assert ("resume",) in peer.said

    run(work)


def test_a_reset_is_noticed_while_reading_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop would not tell: nobody polls the socket."""
    monkeypatch.setattr(limits, "RESET_LOOK_S", 0.02)

    async def work() -> None:
        end, peer, far = await tcp_pair()
        end.start()
        end.pause()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        assert (await until(peer, "end_closed"))[2]

    run(work)


def test_a_reset_is_noticed_after_the_end_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has sent its FIN may still be reset: nobody reads any more, and perhaps nothing is to be written for hours."""
    monkeypatch.setattr(limits, "RESET_LOOK_S", 0.02)

    async def work() -> None:
        end, peer, far = await tcp_pair()
        end.start()
        far.shutdown(socket.SHUT_WR)
        await until(peer, "finish")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        assert (await until(peer, "end_closed"))[2]

    run(work)


def test_a_slow_reader_is_waited_for_and_a_silent_one_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as something moves; the cut is no clean end."""
    monkeypatch.setattr(limits, "LINGER_S", 0.7)  # above the kernel's persist timer

    async def work() -> None:
        loop = asyncio.get_running_loop()
        end, peer, far = await tcp_pair()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        end.start()
        payload = b"s" * 8_000_000
        end.send(payload)
        far.shutdown(socket.SHUT_WR)
        await until(peer, "finish")
        end.finish()
        got = 0
        while got < 2_000_000:
            got += len(await loop.sock_recv(far, 65536))
        told = await until(peer, "end_closed")
        assert "reset" in told[2]
        far.close()

    run(work)
