"""Bytes from peers and from our own processes: what a stranger may send first, sessions, tunnel heads, frames, requests."""

import contextlib

from nodeagent import limits
from nodeagent.errors import AgentError, BadDestination, Denied, FrameError, Loop
from nodeagent.wire import connect, requests
from nodeagent.wire.capture_file import decode_capture, encode_capture
from nodeagent.wire.client_hello import ClientHello, HelloError, NeedMore, read_client_hello
from nodeagent.wire.frames import FrameReader, encode_frame
from nodeagent.wire.http2 import Session
from nodeagent.wire.stream import Budget, Headers, Stream

_PIECES = 64
"""Cuts of one input at most: byte by byte for short ones."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def cut(data: bytes) -> list[bytes]:
    """The data in small pieces, single bytes where it is short."""
    size = len(data) // _PIECES + 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def client_hello(data: bytes) -> bool:
    """Any prefix asks for more, or says what the whole says; nobody is asked to wait for more than a record."""
    whole = _hello(data)
    for end in range(0, len(data), len(data) // _PIECES + 1):
        part = _hello(data[:end])
        assert part == whole or (isinstance(part, NeedMore) and end < part.total <= limits.HELLO_BYTES)
    return isinstance(whole, ClientHello)


def _hello(data: bytes) -> ClientHello | NeedMore | None:
    try:
        return read_client_hello(data)
    except HelloError:
        return None


def headers_in(data: bytes) -> Headers:
    """One header in each line, `name: value`, as the samples are written."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in data.split(b"\n"))]


def connect_request(data: bytes) -> bool:
    """The head of a stream is a CONNECT to an address, or is refused by name."""
    try:
        asked = connect.read_request(headers_in(data))
    except (BadDestination, Loop):
        return False
    assert connect.read_request(connect.request_headers(asked.authority)) == (asked.authority, 1)
    return True


def connect_answer(data: bytes) -> bool:
    """An answer is 200 or a refusal whose words are fit for a log; what we say ourselves arrives as it was said."""
    try:
        connect.read_answer(headers_in(data))
    except AgentError as error:
        assert str(error).isprintable()
        assert len(str(error)) < limits.DETAIL_CHARS + 200
    else:
        return True
    _tell(data.decode(errors="replace"))
    return False


def _tell(said: str) -> None:
    """A refusal goes out as ASCII without line ends, and what was ASCII arrives as it was said."""
    headers = connect.refusal_headers(Denied(said))
    assert all(value.isascii() and value.decode().isprintable() for _, value in headers)
    shown = "".join(each if each.isprintable() else "?" for each in said[: limits.DETAIL_CHARS])
    try:
        connect.read_answer(headers)
    except Denied as error:
        assert not said.isascii() or str(error).endswith(f" (denied): {shown}" if said else " (denied)")


class _Listener:
    """A stream's owner, and a session's, that writes down what it is told: data joined, so that cuts do not show."""

    def __init__(self, log: dict[int, list[object]], stream: Stream) -> None:
        self.log, self.stream = log.setdefault(stream.id, []), stream

    def on_head(self, headers: Headers) -> None:
        self.log.append(headers)

    def on_data(self, data: bytes) -> None:
        if self.log and isinstance(self.log[-1], bytes):
            data = self.log.pop() + data
        self.log.append(data)

    def on_end(self) -> None:
        self.log.append("end")

    def on_reset(self, code: int) -> None:
        self.log.append(code)

    def on_drained(self) -> None:
        self.log.append("drained")


class _Side:
    """One session under fire, and what came of it."""

    def __init__(self, *, is_client: bool) -> None:
        self.log: dict[int, list[object]] = {}
        self.unanswered: list[Stream] = []
        self.budget = Budget()
        self.session = Session(self, self.budget, is_client=is_client)
        self.session.data_to_send()
        if is_client:
            stream = self.session.open([(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")], None)  # type: ignore[arg-type]
            stream.handler = _Listener(self.log, stream)
            self.session.data_to_send()

    def on_request(self, stream: Stream, headers: Headers) -> _Listener:
        listener = _Listener(self.log, stream)
        listener.log.append(headers)
        self.unanswered.append(stream)
        return listener

    def on_output(self) -> None:
        """Everything is pumped by hand."""

    def _answer(self) -> None:
        """In a turn of its own, as agents do."""
        for stream in self.unanswered:
            stream.respond([(b":status", b"200")])
            stream.write(b"hello")
        self.unanswered.clear()

    def feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.session.receive(piece)
            self._answer()
            while self.session.data_to_send():
                assert self.budget.used >= 0
        assert len(self.session.streams) <= limits.STREAMS_PER_SESSION
        self.session.lose("over")
        assert all("end" in log or any(isinstance(each, int) for each in log) for log in self.log.values())
        assert self.budget.used == 0
        assert self.session.data_to_send() == b""


def _session(data: bytes, *, is_client: bool) -> bool:
    sides = whole, pieces = _Side(is_client=is_client), _Side(is_client=is_client)
    whole.feed([data])
    pieces.feed(cut(data))
    lived = [side.session.failure == "over" for side in sides]
    for number in whole.log | pieces.log:
        one, other = (_events(side, number) for side in sides)
        if not all(lived):  # what came beside the bytes that end a session goes down with it
            least = min(len(one), len(other))
            one, other = one[:least], other[:least]
        assert one == other
    return all(lived)


def _events(side: _Side, number: int) -> list[object]:
    """What a stream's owner was told, but who reset it: the peer, or we, depends on when we may speak."""
    return [each for each in side.log.get(number, []) if not isinstance(each, int)]


def http2_server(data: bytes) -> bool:
    """Whatever a peer sends after its preface, the events are the same however it is cut, and nothing stays held."""
    return _session(PREFACE + data, is_client=False)


def http2_client(data: bytes) -> bool:
    """The same for what a callee's agent sends back."""
    return _session(data, is_client=True)


def frames(data: bytes) -> bool:
    """Messages, and then at most one FrameError; what was read can be written and read again."""
    again, is_whole = _read_frames([data])
    assert (again, is_whole) == _read_frames(cut(data))
    assert _read_frames([again]) == (again, True)
    return bool(again) and is_whole


def _read_frames(pieces: list[bytes]) -> tuple[bytes, bool]:
    """The messages up to the first error, written again: as bytes even a NaN is equal to itself."""
    reader, again = FrameReader(limit=1 << 20), b""
    try:
        for piece in pieces:
            for message in reader.feed(piece):
                again += encode_frame(message)
    except FrameError:
        return again, False
    return again, True


def worker_requests(data: bytes) -> bool:
    """Each of the fixed shapes is a value that is written as it was read, or a FrameError."""
    found = False
    for decode, encode in _REQUESTS:
        with contextlib.suppress(FrameError):
            value = decode(data)
            assert decode(encode(value)) == value
            found = True
    return found


_REQUESTS = (
    (requests.decode_family, lambda family: requests.encode_family(requests.WANT_SOCKETS, family)),
    (requests.decode_question, requests.encode_question),
    (requests.decode_answer, requests.encode_answer),
    (requests.decode_unit, lambda value: requests.encode_unit(*value)),
    (requests.decode_listen, requests.encode_listen),
    (requests.decode_beat, lambda number: requests.encode_beat(requests.PONG, number)),
)


def capture_file(data: bytes) -> bool:
    """The saved capture is a frame or a FrameError."""
    try:
        frame = decode_capture(data)
    except FrameError:
        return False
    assert decode_capture(encode_capture(frame)) == frame
    return True
