"""One message after the other: nothing of the next before it is asked for, whoever asks and from where."""

import pytest

from nodeagent.model.message import Headers, RequestHead
from nodeagent.wire.http1.parser import CodecName, request_parser
from tests.support.http1 import CODECS, Log, cuts_of

GET = b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"


def targets(log: Log) -> list[bytes]:
    return [event[1].target for event in log.events if event[0] == "head"]


@pytest.mark.parametrize("codec", CODECS)
def test_the_next_message_is_told_when_it_is_asked_for(codec: CodecName) -> None:
    """Clients need not wait for answers, which go out in order; what is held can be counted."""
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(POST + GET + GET[:9])
    assert (1, len(GET) + 9, False) == (log.ends, parser.buffered, parser.is_idle)
    parser.feed(GET[9:])
    assert (1, 2 * len(GET)) == (log.ends, parser.buffered)
    parser.proceed()
    assert (2, len(GET)) == (log.ends, parser.buffered)
    parser.proceed()
    assert (3, 0, False) == (log.ends, parser.buffered, parser.is_idle)
    parser.proceed()
    assert parser.is_idle


@pytest.mark.parametrize("codec", CODECS)
def test_to_proceed_within_a_message_says_nothing(codec: CodecName) -> None:
    """Only behind its end."""
    log = Log()
    parser = request_parser(codec, log)
    parser.proceed()
    parser.feed(POST[:-2])
    parser.proceed()
    parser.feed(POST[-2:] + GET)
    assert 1 == log.ends


class Owner(Log):
    """One that calls back from what it is told."""

    def __init__(self, codec: CodecName) -> None:
        super().__init__()
        self.parser = request_parser(codec, self)
        self.rest = b""

    def on_request(self, head: RequestHead) -> None:
        super().on_request(head)
        if head.target == b"/rest":
            self.rest = self.parser.take_rest()

    def on_end(self, trailers: Headers) -> None:
        super().on_end(trailers)
        self.parser.proceed()


@pytest.mark.parametrize("codec", CODECS)
def test_an_owner_may_proceed_from_what_it_is_told(codec: CodecName) -> None:
    """The messages come in order, and a thousand of them do not call each other."""
    owner = Owner(codec)
    owner.parser.feed(1000 * GET + POST + GET[:1])
    assert (1001, 1) == (owner.ends, owner.parser.buffered)
    owner.parser.feed(GET[1:])
    assert (1002, True) == (owner.ends, owner.parser.is_idle)


@pytest.mark.parametrize("codec", CODECS)
def test_what_comes_after_an_upgrade_is_taken_as_it_is(codec: CodecName) -> None:
    """Behind a request that ended, until the owner asks for it; then nothing is parsed any more."""
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(GET + b"\x81\x00")
    parser.feed(b"\r\n\r\n")
    assert b"\x81\x00\r\n\r\n" == parser.take_rest()
    parser.feed(GET)
    parser.proceed()
    parser.eof()
    assert (1, 0, False, []) == (log.ends, parser.buffered, parser.is_idle, log.errors)


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_is_told_after_what_is_bad(codec: CodecName) -> None:
    """Nobody knows where the next message would begin."""
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(GET + b"\x00" + GET)
    assert [] == log.errors
    parser.proceed()
    parser.feed(GET)
    parser.proceed()
    parser.eof()
    assert (1, 1, 0, False) == (log.ends, len(log.errors), parser.buffered, parser.is_idle)


@pytest.mark.parametrize("codec", CODECS)
def test_a_client_may_leave_between_messages(codec: CodecName) -> None:
    """Before one, behind one, behind an empty line; also one that was not told yet is told when it is asked for."""
    for data, count in ((b"", 0), (GET, 1), (GET + b"\r\n", 1), (POST, 1)):
        owner = Owner(codec)
        owner.parser.feed(data)
        owner.parser.eof()
        assert (count, []) == (owner.ends, owner.errors)
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(GET + GET)
    parser.eof()
    parser.proceed()
    assert (2, []) == (log.ends, log.errors)


@pytest.mark.parametrize("codec", CODECS)
def test_a_client_that_leaves_within_a_message_is_told_of(codec: CodecName) -> None:
    """At every byte but the first and the last; also of a message that was held."""
    for whole in (GET, POST, POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")[:-5] + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"):
        for size in range(1, len(whole)):
            owner = Owner(codec)
            owner.parser.feed(whole[:size])
            owner.parser.eof()
            assert (0, "ends within a message") == (owner.ends, str(owner.errors[0])[-21:])
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(GET + GET[:5])
    parser.eof()
    assert [] == log.errors
    parser.proceed()
    assert 1 == len(log.errors)


@pytest.mark.parametrize("codec", CODECS)
def test_is_idle_is_true_between_messages_alone(codec: CodecName) -> None:
    """At no byte within one, nor while one is held."""
    for pieces in cuts_of(POST):
        log = Log()
        parser = request_parser(codec, log)
        for piece in pieces:
            assert parser.is_idle == (not log.events and parser.buffered == 0 and piece is pieces[0])
            parser.feed(piece)
        assert not parser.is_idle


@pytest.mark.parametrize("codec", CODECS)
def test_a_body_is_told_piece_by_piece(codec: CodecName) -> None:
    """As it comes, never whole; chunks that came together are told together."""
    told: list[bytes] = []

    class Pieces(Log):
        def on_body(self, data: bytes) -> None:
            told.append(data)

    parser = request_parser(codec, Pieces())
    parser.feed(POST[:-3])
    parser.feed(POST[-3:])
    parser.proceed()
    parser.feed(POST[:-5].replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    parser.feed(50 * b"1\r\nx\r\n" + b"1\r\n")
    parser.feed(b"y\r\n0\r\n\r\n")
    assert [b"he", b"llo", 50 * b"x", b"y"] == told


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_told_of_a_body_before_a_fault_is_told(codec: CodecName) -> None:
    """In this order."""
    log = Log()
    parser = request_parser(codec, log)
    parser.feed(POST[:-5].replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"2\r\nok\r\nnone")
    parser.feed(b"\r\n")
    assert [("body", b"ok"), ("bad", 400)] == log.events[1:]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("last", [GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), GET.replace(b"1.1", b"1.0")])
def test_behind_the_last_request_nothing_is_told(codec: CodecName, last: bytes) -> None:
    """Who says that it is the last gets no other one in: neither good nor bad, and nothing is kept of it."""
    for behind in (GET, b"\0"):
        for pieces in cuts_of(last + behind):
            owner = Owner(codec)
            for piece in pieces:
                owner.parser.feed(piece)
            owner.parser.eof()
            assert (1, [], 0, False) == (owner.ends, owner.errors, owner.parser.buffered, owner.parser.is_idle)
