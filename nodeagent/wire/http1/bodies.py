"""Where bodies end: after so many bytes, with the last chunk, or with the connection."""

from typing import Final

from nodeagent import limits
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, Headers, plain_name
from nodeagent.wire.http1.events import BadMessage, BodyReader
from nodeagent.wire.http1.grammar import CHUNK_LINE, FIELDS, split_fields
from nodeagent.wire.http1.head import OF_REQUEST

_NO_TRAILERS: Final[Headers] = []
_ANOTHERS: Final = frozenset({
    b"authorization", b"proxy-authorization", b"proxy-authenticate", b"www-authenticate", b"cookie", b"set-cookie",
    b"forwarded", b"x-real-ip", b"x-request-id", b"traceparent", b"tracestate",
    b"content-encoding", b"content-range", b"content-type", b"cache-control", b"range", b"location", b"trailer",
})  # fmt: skip
_ANOTHERS_BEGIN: Final = (b"x-forwarded-", b"x-spiffe-", b"x-mesh-", b"x-nodeagent-", b"x-envoy-", b"if-")


def body_reader(length: int) -> BodyReader | None:
    """What reads a body of `length`; None: it is empty."""
    if length == 0:
        return None
    if length == CHUNKED:
        return ChunkedBody()
    return EndlessBody() if length == UNTIL_CLOSE else CountedBody(length)


class CountedBody:
    """So many bytes."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    def read(self, data: bytes, at: int, pieces: list[bytes]) -> tuple[int, Headers | None]:
        """BodyReader's."""
        end = min(at + self._left, len(data))
        if end > at:
            pieces.append(data[at:end])
            self._left -= end - at
        return end, None if self._left else _NO_TRAILERS


class EndlessBody:
    """All that comes."""

    __slots__ = ()

    def read(self, data: bytes, at: int, pieces: list[bytes]) -> tuple[int, Headers | None]:
        """BodyReader's."""
        if at < len(data):
            pieces.append(data[at:])
        return len(data), None


class ChunkedBody:
    """Chunks, each with its length, and trailers. What is incomplete stays with the caller, who gives it again with more."""

    __slots__ = ("_extension_bytes", "_is_after_chunk", "_is_after_last", "_left")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the chunk that are to come."""
        self._is_after_chunk = False
        self._is_after_last = False
        self._extension_bytes = 0

    def read(self, data: bytes, at: int, pieces: list[bytes]) -> tuple[int, Headers | None]:
        """BodyReader's."""
        size = len(data)
        while at < size:
            if self._left:
                end = min(at + self._left, size)
                pieces.append(data[at:end])
                self._left -= end - at
                self._is_after_chunk = not self._left
                at = end
            elif self._is_after_last:
                return _read_trailers(data, at)
            elif self._is_after_chunk:
                if not data.startswith(b"\r\n", at):
                    if size - at > 1 or data[at] != 13:
                        raise BadMessage("a chunk that is longer than its length")
                    break
                self._is_after_chunk = False
                at += 2
            else:
                line = CHUNK_LINE.match(data, at)
                if line is None or line.end() - at > limits.HTTP_CHUNK_LINE_BYTES:
                    _await_line(data, at)
                    break
                self._begin(int(line[1], 16), line[2])
                at = line.end()
        return at, None

    def _begin(self, length: int, extensions: bytes | None) -> None:
        if length >= 2**63:
            raise BadMessage("a chunk of more bytes than there are")
        if extensions:
            self._extension_bytes += len(extensions)
            if self._extension_bytes > limits.HTTP_EXTENSION_BYTES:
                raise BadMessage(f"more than {limits.HTTP_EXTENSION_BYTES} bytes of chunk extensions")
        self._left = length
        self._is_after_last = length == 0


def _await_line(data: bytes, at: int) -> None:
    """Nothing, where the line of a chunk is merely not complete."""
    if data.find(b"\n", at, at + limits.HTTP_CHUNK_LINE_BYTES) >= 0:
        raise BadMessage("a chunk whose length is no number")
    if len(data) - at >= limits.HTTP_CHUNK_LINE_BYTES:
        raise BadMessage(f"a chunk's line of more than {limits.HTTP_CHUNK_LINE_BYTES} bytes")


def _read_trailers(data: bytes, at: int) -> tuple[int, Headers | None]:
    if data.startswith(b"\r\n", at):
        return at + 2, _NO_TRAILERS
    end = data.find(b"\r\n\r\n", at) + 4
    if (end if end > 3 else len(data)) - at > limits.HTTP_TRAILER_BYTES:
        raise BadMessage(f"trailers of more than {limits.HTTP_TRAILER_BYTES} bytes")
    if end > 3:
        return end, read_trailers(data[at:end])
    if data.count(b"\n", at) != data.count(b"\r\n", at):  # cheap, for it is done again with each byte of a slow sender
        raise BadMessage("a line feed without a carriage return")
    return at, None


def read_trailers(raw: bytes) -> Headers:
    """Those that go on: what is about identity, or about the message's head, is left out, however it is spelled.

    Raises:
        BadMessage: they are malformed or too many, or one is about framing.
    """
    if not FIELDS.fullmatch(raw):
        raise BadMessage("a trailer that is none")
    fields = split_fields(raw)
    if len(fields) > limits.HTTP_FIELDS:
        raise BadMessage(f"more than {limits.HTTP_FIELDS} trailers")
    trailers = []
    for name, value in fields:
        plain = plain_name(name)
        if plain in OF_REQUEST:
            raise BadMessage(f"a trailer named {plain.decode()}")
        if plain not in _ANOTHERS and not plain.startswith(_ANOTHERS_BEGIN):
            trailers.append((name, value))
    return trailers
