"""The reference codec: h11 reads whole messages, heads and bodies, and any difference to our own reading is a doubt.

It takes some twenty times as long, and is there to be compared with.
"""

import re
from typing import Final

import h11

from nodeagent import limits
from nodeagent.model.message import Headers
from nodeagent.wire.http1.bodies import body_reader
from nodeagent.wire.http1.events import BadMessage, BodyReader
from nodeagent.wire.http1.grammar import split_fields

_TAB_BEHIND: Final = re.compile(rb"(?:\A|\n)transfer-encoding:[^\r]*\t *\r", re.IGNORECASE)  # which llhttp refuses
_HEAD_BYTES: Final = limits.HTTP_HEAD_BYTES + limits.HTTP_TRAILER_BYTES  # ours are counted before


class ReferenceCodec:
    """Codec over h11; one connection of it for each message."""

    def __init__(self) -> None:
        self._reader = h11.Connection(h11.SERVER)

    def request_fields(self, match: re.Match[bytes]) -> Headers:
        """Codec's."""
        self._reader = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        head = self._next(match[0])
        if not isinstance(head, h11.Request) or (head.method, head.target, head.http_version[-1:]) != match.group(1, 2, 3):
            raise BadMessage("a request that h11 reads otherwise")
        return _agreed(match[4], head.headers.raw_items())

    def response_fields(self, match: re.Match[bytes], method: bytes) -> Headers:
        """Codec's."""
        self._reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        asked = [("Host", "a"), *([("Connection", "Upgrade"), ("Upgrade", "b")] if match[2] == b"101" else [])]
        self._reader.send(h11.Request(method=method, target="/", headers=asked))
        self._reader.send(h11.EndOfMessage())
        head = self._next(match[0])
        if not isinstance(head, h11.Response | h11.InformationalResponse):
            raise BadMessage("an answer that h11 reads otherwise")
        if (head.http_version[-1:], b"%d" % head.status_code, head.reason) != (match[1], match[2], match[3] or b""):
            raise BadMessage("an answer whose line h11 reads otherwise")
        return _agreed(match[4], head.headers.raw_items())

    def body(self, length: int) -> BodyReader | None:
        """Codec's."""
        inner = body_reader(length)
        if inner is not None:
            return _WitnessedBody(inner, self._reader)
        if not isinstance(self._next(b""), h11.EndOfMessage):
            raise BadMessage("a body that h11 sees and we do not")
        return None

    def _next(self, data: bytes) -> object:
        try:
            if data:
                self._reader.receive_data(data)
            return self._reader.next_event()
        except h11.RemoteProtocolError as error:
            raise BadMessage(f"a head that h11 refuses: {error}") from error


def _agreed(lines: bytes, seen: Headers) -> Headers:
    """The fields. h11 makes one length of two that are equal, and lowers a coding's letters: only the latter is no doubt."""
    if _TAB_BEHIND.search(lines):
        raise BadMessage("a transfer-encoding with a tab behind it")
    fields = split_fields(lines)
    if [(name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in fields] != seen:
        raise BadMessage("fields that h11 reads otherwise")
    return fields


class _WitnessedBody:
    """A BodyReader whose every step h11 must agree with."""

    def __init__(self, inner: BodyReader, reader: h11.Connection) -> None:
        self._inner, self._reader = inner, reader

    def read(self, data: bytes, at: int, pieces: list[bytes]) -> tuple[int, Headers | None]:
        """BodyReader's."""
        known = len(pieces)
        end, trailers = self._inner.read(data, at, pieces)
        try:
            seen, is_complete = self._witness(data[at:end])
        except h11.RemoteProtocolError as error:
            raise BadMessage(f"a body that h11 refuses: {error}") from error
        if b"".join(pieces[known:]) != seen or is_complete != (trailers is not None):
            raise BadMessage("a body that h11 reads otherwise")
        return end, trailers

    def _witness(self, raw: bytes) -> tuple[bytes, bool]:
        if raw:
            self._reader.receive_data(raw)
        seen = []
        while True:
            event = self._reader.next_event()
            if isinstance(event, h11.Data):
                seen.append(bytes(event.data))
            else:
                return b"".join(seen), isinstance(event, h11.EndOfMessage)
