"""Sessions between agents: fairness, back-pressure, ends and resets, over bytes in memory."""

import pytest

from nodeagent import limits
from nodeagent.wire.http2 import Session
from nodeagent.wire.stream import CANCEL, LOST, NO_ERROR, REFUSED_STREAM, Budget, Headers, Stream

CONNECT = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]
OK = [(b":status", b"200")]


class Taker:
    """A stream's owner that remembers what it was told, and reads unless it is stalled."""

    def __init__(self, stream: Stream | None = None, *, is_stalled: bool = False) -> None:
        self.stream, self.is_stalled = stream, is_stalled
        self.got, self.head, self.code = b"", None, None
        self.has_ended, self.drained = False, 0

    def on_head(self, headers: Headers) -> None:
        self.head = headers

    def on_data(self, data: bytes) -> None:
        self.got += data
        if not self.is_stalled:
            self.stream.consume(len(data))

    def on_end(self) -> None:
        self.has_ended = True

    def on_reset(self, code: int) -> None:
        self.code = code

    def on_drained(self) -> None:
        self.drained += 1


class Pair:
    """A client's and a server's session, and what passes between them."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.client = Session(self, self.budget, is_client=True)
        self.server = Session(self, self.budget, is_client=False)
        self.accepted: list[Taker] = []
        self.pump()

    def on_request(self, stream: Stream, headers: Headers) -> Taker:
        taker = Taker(stream)
        self.accepted.append(taker)
        return taker

    def on_output(self) -> None:
        """Everything is pumped by hand."""

    def pump(self) -> None:
        while True:
            there, back = self.client.data_to_send(), self.server.data_to_send()
            if not there and not back:
                return
            self.server.receive(there)
            self.client.receive(back)

    def open(self, *, is_stalled: bool = False) -> tuple[Taker, Taker]:
        caller = Taker(is_stalled=is_stalled)
        caller.stream = self.client.open(CONNECT, caller)
        self.pump()
        callee = self.accepted[-1]
        callee.stream.respond(OK)
        self.pump()
        return caller, callee


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_bytes_and_ends_arrive_in_both_directions(pair: Pair) -> None:
    """Five megabytes one way, then an answer after the other direction had ended."""
    caller, callee = pair.open()
    caller.stream.write(b"x" * 5_000_000)
    caller.stream.write_eof()
    pair.pump()
    assert (len(callee.got), callee.has_ended, caller.has_ended) == (5_000_000, True, False)
    callee.stream.write(b"answer")
    callee.stream.write_eof()
    pair.pump()
    assert (caller.head, caller.got, caller.has_ended, caller.code) == (OK, b"answer", True, None)
    assert (pair.client.streams, pair.server.streams, pair.budget.used) == ({}, {}, 0)


def test_stalled_readers_stop_nobody_else(pair: Pair) -> None:
    """Sixty streams whose reader takes nothing; the sixty-first delivers all of its bytes."""
    stalled = [pair.open() for _ in range(60)]
    for caller, callee in stalled:
        callee.is_stalled = True
        caller.stream.write(b"s" * 400_000)
    pair.pump()
    assert {len(callee.got) for _, callee in stalled} == {limits.STREAM_WINDOW_BYTES}
    caller, callee = pair.open()
    caller.stream.write(b"m" * 5_000_000)
    pair.pump()
    assert len(callee.got) == 5_000_000


def test_reset_streams_with_unread_data_stop_nobody_else(pair: Pair) -> None:
    """What a reset stream had not read goes back to the session's window and the worker's budget."""
    for number in range(200):
        caller, callee = pair.open()
        callee.is_stalled = True
        caller.stream.write(b"z" * 300_000)
        pair.pump()
        (caller if number % 2 else callee).stream.reset(CANCEL)
        pair.pump()
    assert (pair.client.streams, pair.server.streams, pair.budget.used) == ({}, {}, 0)
    caller, callee = pair.open()
    caller.stream.write(b"m" * 1_000_000)
    pair.pump()
    assert len(callee.got) == 1_000_000


def test_a_reset_reaches_the_other_side_with_its_code(pair: Pair) -> None:
    """And nothing is told to the side that reset."""
    caller, callee = pair.open()
    caller.stream.reset(CANCEL)
    pair.pump()
    assert (callee.code, caller.code) == (CANCEL, None)


def test_a_reset_that_calls_itself_no_error_is_a_reset_all_the_same(pair: Pair) -> None:
    """Some peers end a stream so that they have had enough of: whoever relays it must not wait for more."""
    caller, callee = pair.open()
    caller.stream.reset(NO_ERROR)
    pair.pump()
    assert (callee.code, callee.has_ended, pair.server.streams) == (CANCEL, False, {})


def test_a_refused_stream_ends_cleanly(pair: Pair) -> None:
    """The answer was the end of it: no reset follows when the caller has ended as well."""
    caller = Taker()
    caller.stream = pair.client.open(CONNECT, caller)
    pair.pump()
    callee = pair.accepted[-1]
    callee.stream.respond([(b":status", b"401")], end=True)
    caller.stream.write_eof()
    pair.pump()
    assert (caller.has_ended, caller.code, callee.has_ended, callee.code) == (True, None, True, None)


def test_bulk_does_not_starve_a_small_stream(pair: Pair) -> None:
    """With megabytes queued before it, five bytes leave in the first write."""
    bulk, _ = pair.open()
    small, receiver = pair.open()
    bulk.stream.write(b"b" * 10_000_000)
    small.stream.write(b"hello")
    pair.server.receive(pair.client.data_to_send())
    assert receiver.got == b"hello"


def test_a_full_queue_is_told_and_its_draining_too(pair: Pair) -> None:
    """The writer sees is_full beyond the mark, and on_drained once the reader has caught up."""
    caller, callee = pair.open()
    callee.is_stalled = True
    caller.stream.write(b"q" * 1_000_000)
    assert caller.stream.is_full
    pair.pump()
    assert caller.drained == 0
    callee.is_stalled = False
    callee.stream.consume(callee.stream.unread)
    pair.pump()
    assert (caller.drained, caller.stream.is_full, len(callee.got)) == (1, False, 1_000_000)


def test_a_lost_session_tells_every_stream(pair: Pair) -> None:
    """And holds nothing any more."""
    takers = [pair.open()[0] for _ in range(3)]
    takers[0].stream.write(b"x" * 1_000_000)
    pair.client.lose("cable cut")
    pair.server.lose("cable cut")
    assert [taker.code for taker in takers] == [LOST] * 3
    assert pair.budget.used == 0


def test_a_session_counts_its_streams(pair: Pair) -> None:
    """The thousand-and-first stream has no room: the library would have queued it silently."""
    for _ in range(limits.STREAMS_PER_SESSION):
        assert pair.client.has_room
        pair.client.open(CONNECT, Taker())
    assert not pair.client.has_room


def test_after_a_shutdown_notice_the_client_opens_nothing_more(pair: Pair) -> None:
    """While the open stream goes on."""
    caller, callee = pair.open()
    pair.server.shut_down()
    pair.pump()
    assert not pair.client.has_room
    caller.stream.write(b"still here")
    pair.pump()
    assert callee.got == b"still here"


def test_a_session_that_takes_no_more_refuses_what_comes_and_goes_on_with_what_is_open(pair: Pair) -> None:
    """Also by a peer that does not care for notices."""
    caller, callee = pair.open()
    pair.server.takes_more = False
    late = Taker()
    late.stream = pair.client.open(CONNECT, late)
    late.stream.write(b"unasked")
    pair.pump()
    assert (late.code, len(pair.accepted), len(pair.server.streams)) == (REFUSED_STREAM, 1, 1)
    caller.stream.write(b"still here")
    pair.pump()
    assert (callee.got, pair.budget.used) == (b"still here", 0)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 3, b"\x00" * 100, b"\xff" * 64])
def test_garbage_ends_the_session(pair: Pair, garbage: bytes) -> None:
    """It fails with a sentence, and the streams are told when the transport goes."""
    _, callee = pair.open()
    pair.server.receive(garbage)
    pair.server.data_to_send()
    assert pair.server.failure
    pair.server.lose(pair.server.failure)
    assert callee.code == LOST
    pair.server.receive(b"more")
    assert pair.server.data_to_send() == b""


def test_a_flood_of_pings_gets_a_farewell_of_our_own(pair: Pair) -> None:
    """The library refuses to speak after an attack: the GOAWAY is hand-written, once, and names the last stream that was served."""
    caller, _ = pair.open()
    ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"p" * 8
    for _ in range(100):
        pair.server.receive(ping * 1000)
        if pair.server.failure:
            break
    farewell = pair.server.data_to_send()
    assert "HTTP/2 error 11" in pair.server.failure
    assert farewell == b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + b"\x00\x00\x00\x01" + b"\x00\x00\x00\x0b"
    assert pair.server.data_to_send() == b""
    pair.client.receive(farewell)
    pair.client.lose(pair.server.failure)
    assert caller.code == LOST


def test_writing_to_a_closed_stream_is_harmless(pair: Pair) -> None:
    """The peer may reset at any moment; the writer learns it later."""
    caller, callee = pair.open()
    caller.stream.reset(CANCEL)
    caller.stream.write(b"late")
    caller.stream.write_eof()
    caller.stream.reset(CANCEL)
    pair.pump()
    callee.stream.write(b"late")
    callee.stream.respond(OK)
    pair.pump()
    assert (callee.got, caller.got, pair.budget.used) == (b"", b"", 0)


def test_the_session_s_window_is_the_largest_there_is(pair: Pair) -> None:
    """Stalled streams must not stop the others: a thousand times a stream's window fits into it."""
    hello = Session(pair, Budget(), is_client=False).data_to_send()
    grown = (limits.SESSION_WINDOW_BYTES - 65_535).to_bytes(4, "big")
    assert b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + grown in hello
    assert limits.STREAMS_PER_SESSION * limits.STREAM_WINDOW_BYTES < limits.SESSION_WINDOW_BYTES


def test_one_turn_writes_so_much_of_each_stream_and_of_all(pair: Pair) -> None:
    """A bulk transfer neither fills a turn for ever nor goes first."""
    takers = [pair.open()[0] for _ in range(3)]
    for taker in takers:
        taker.stream.write(b"b" * 10 * limits.FEED_BYTES)
    sent = pair.client.data_to_send()
    assert limits.FLUSH_BYTES <= len(sent) < limits.FLUSH_BYTES + 4 * limits.FEED_BYTES
    queued = {taker.stream.queued // limits.FEED_BYTES for taker in takers}
    assert max(queued) - min(queued) <= 1
