"""What a parser of HTTP/1.1 tells, and what its owner may ask of it: the same whatever reads the bytes."""

import re
from typing import Final, Protocol

from nodeagent.errors import AgentError, Reason, Side
from nodeagent.model.message import Headers, RequestHead, ResponseHead

SWITCHED: Final = -3
"""The length of what follows a head after which another protocol is spoken."""
INTERIM: Final = -4
"""The length of what follows an answer that is not the last."""


class BadMessage(AgentError):
    """A message that could be understood in two ways, or in none. Its connection ends: nobody knows where the next one begins."""

    reason = Reason.BAD_MESSAGE

    def __init__(self, why: str, *, status: int = 400) -> None:
        super().__init__(why)
        self.status = status
        """What a client is answered. One of an origin is 502, which is its owner's to say."""
        self.side = Side.DOWNSTREAM


class RequestSink(Protocol):
    """Whoever is told what a client sends."""

    def on_request(self, head: RequestHead) -> None:
        """A request up to its body."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body itself, as large as it came."""

    def on_end(self, trailers: Headers) -> None:
        """The message is complete. Nothing of the next one is told before `proceed`."""

    def on_bad(self, error: BadMessage) -> None:
        """After what was understood before it. Nothing comes after it."""


class ResponseSink(Protocol):
    """Whoever is told what an origin answers."""

    def on_response(self, head: ResponseHead) -> None:
        """An answer up to its body. After one of 100 to 199 another comes; after 101 nothing of this protocol."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body itself, as large as it came."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete. Nothing of the next one is told before `proceed`."""

    def on_bad(self, error: BadMessage) -> None:
        """After what was understood before it. Nothing comes after it."""


class Parser(Protocol):
    """What both directions have in common."""

    def feed(self, data: bytes) -> None:
        """Takes what came, in any cuts, and tells what is complete."""

    def proceed(self) -> None:
        """The next message may be told: at once, where it is here already. After one that is the last nothing is, ever."""

    def eof(self) -> None:
        """No more comes. It is bad in the middle of a message, unless that is how the message ends."""

    @property
    def is_idle(self) -> bool:
        """Whether it is between messages, with nothing of the next one here."""

    @property
    def buffered(self) -> int:
        """Bytes that are held: of a head that is not complete, or of what comes after a message."""

    def take_rest(self) -> bytes:
        """What came after a head that switches to another protocol. The parser is done."""


class RequestParser(Parser, Protocol):
    """A client's requests."""


class ResponseParser(Parser, Protocol):
    """An origin's answers."""

    def expect(self, method: bytes, *, may_switch: bool = False) -> None:
        """Before each answer: what was asked; whether to speak another protocol was. An answer that nobody expects is bad."""


class BodyReader(Protocol):
    """Where a body ends."""

    def read(self, data: bytes, at: int, pieces: list[bytes]) -> tuple[int, Headers | None]:
        """Appends what of the body is in `data` from `at` on. How far it has come, and the trailers where the body ends there.

        Raises:
            BadMessage: the body's framing is in doubt; `pieces` holds what came before.
        """


class Codec(Protocol):
    """A library's reading of one message after the other."""

    def request_fields(self, match: re.Match[bytes]) -> Headers:
        """The fields of a head that matches grammar.REQUEST.

        Raises:
            BadMessage: the library sees something else in it.
        """

    def response_fields(self, match: re.Match[bytes], method: bytes) -> Headers:
        """The fields of a head that matches grammar.RESPONSE and answers `method`.

        Raises:
            BadMessage: the library sees something else in it.
        """

    def body(self, length: int) -> BodyReader | None:
        """What reads the body of that head; None: it is empty."""
