"""HTTP messages as they were understood: what is decided about, and what is written anew."""

from typing import Final

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Names as they came, in their order; values without the white space around them."""

CHUNKED: Final = -1
"""The length of a body that says piece by piece how long it is."""
UNTIL_CLOSE: Final = -2
"""The length of an answer's body that ends with its connection."""

_FINAL = 200

_PLAIN: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+._^`|~", b"abcdefghijklmnopqrstuvwxyz" + b"-" * 14)


def plain_name(name: bytes) -> bytes:
    """A header's name in lower case, with `-` for all that is no letter or digit: where names become variables, as in CGI, they are one."""
    return name.translate(_PLAIN)


class RequestHead(msgspec.Struct):
    """A request up to its body."""

    method: bytes
    target: bytes
    """Origin form, or `*`; what came in absolute form is here without scheme and authority."""
    authority: bytes
    """Of the Host field, or of the absolute form; empty: an HTTP/1.0 request without one."""
    headers: Headers
    """Without those of framing and of the connection, which are told below, and without Host."""
    length: int = 0
    """Bytes of the body, or CHUNKED."""
    is_http10: bool = False
    keep_alive: bool = True
    """Whether the client would ask again on this connection."""
    upgrade: bytes = b""
    """The protocol that the client asks for, in lower case: `websocket`."""
    expects_continue: bool = False
    """Whether the client waits for 100 before it sends the body."""
    accepts_trailers: bool = False
    """Whether its TE field says `trailers`: the only one of its words that goes on."""


class ResponseHead(msgspec.Struct):
    """An answer up to its body; also one of those before the last (100 to 199)."""

    status: int
    reason: bytes
    headers: Headers
    """Without those of framing and of the connection."""
    length: int = 0
    """Bytes of the body that comes, CHUNKED or UNTIL_CLOSE. 0 where none may come."""
    has_body: bool = True
    """Whether a body may come, be it an empty one: not to HEAD, nor with 1xx, 204 and 304."""
    said_length: int | None = None
    """The Content-Length that the answer names although no body comes: to HEAD, and with 304."""
    keep_alive: bool = True
    """Whether the origin takes another request on this connection."""
    upgrade: bytes = b""
    """With 101: what is spoken from now on. With 426: what it should be."""

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come."""
        return self.status < _FINAL
