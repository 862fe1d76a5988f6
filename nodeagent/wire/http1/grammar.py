"""How a head looks on the wire: one pattern that leaves no doubt, and words for what does not match it.

Both codecs see only what matches. What their libraries would put up with (RFC 9112 allows a lot of it) is refused here.
"""

import re
from typing import Final

from nodeagent import limits
from nodeagent.model.message import Headers
from nodeagent.wire.http1.events import BadMessage

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
# no CR, LF, NUL or other control; a value may begin and end with white space, but no line may: that is the old folding
_FIELDS: Final = rb"(?:" + _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n"

REQUEST: Final = re.compile(rb"(" + _TOKEN + rb"++) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n(" + _FIELDS + rb")")
"""Method, target, minor version, fields. A target has neither `#` nor anything beyond ASCII."""
RESPONSE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?+\r\n(" + _FIELDS + rb")")
"""Minor version, status, reason, fields."""
FIELDS: Final = re.compile(_FIELDS)
CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e]*+)?+\r\n")
"""Length and extensions. No white space between them: where lines end and numbers begin, parsers differ."""
BARE_LF: Final = re.compile(rb"(?<!\r)\n")
TOKENS: Final = re.compile(rb"[ \t]*(?:" + _TOKEN + rb"++)?[ \t]*(?:,[ \t]*(?:" + _TOKEN + rb"++)?[ \t]*)*+")
"""A list of words, as in Connection; elements may be empty."""
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._\-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
"""A name or an address, and a port. No user, no escapes, no zone."""

_OTHER_VERSION: Final = re.compile(rb"(?:" + _TOKEN + rb"++ [^ ]++ )?HTTP/[0-9]\.[0-9](?: .*)?")
_LINE_BYTES_MORE: Final = 2  # its end, without which nobody knows how long it is
_FIELD_BYTES_LEAST: Final = 4  # `a:` and its end
_LINES_BESIDE: Final = 2  # of a head beside its fields: the first and the last


def is_hopeless(data: bytes, at: int, seen: int, *, is_request: bool) -> bool:
    """Whether what came of a head, from `at` on, cannot become a good one. What is before `seen` was looked at already."""
    size = len(data) - at
    if data[at] not in (_STARTS_OF_REQUEST if is_request else _STARTS_OF_RESPONSE):
        return True
    if size >= limits.HTTP_LINE_BYTES + _LINE_BYTES_MORE and not _has_line(data, at):
        return True
    return size > limits.HTTP_HEAD_BYTES or BARE_LF.search(data, max(at, seen)) is not None


def is_too_big(raw: bytes) -> bool:
    """Whether a complete head is beyond a limit."""
    if len(raw) <= _FIELD_BYTES_LEAST * limits.HTTP_FIELDS:
        return False  # nearly all are: it cannot have so many fields
    return len(raw) > limits.HTTP_HEAD_BYTES or not _has_line(raw, 0) or raw.count(b"\n") > limits.HTTP_FIELDS + _LINES_BESIDE


def split_fields(lines: bytes) -> Headers:
    """The fields of what matches FIELDS, values without the white space around them."""
    return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines.split(b"\r\n")[:-2])]


def complain(raw: bytes, *, is_request: bool) -> BadMessage:
    """What is wrong with a head, complete or not: what comes first in it, so that it is the same however it was cut."""
    found = BARE_LF.search(raw)
    faults = [(found.end(), BadMessage("a line feed without a carriage return"))] if found else []
    if len(raw) >= limits.HTTP_LINE_BYTES + _LINE_BYTES_MORE and not _has_line(raw, 0):
        why = f"a first line of more than {limits.HTTP_LINE_BYTES} bytes"
        faults.append((limits.HTTP_LINE_BYTES + _LINE_BYTES_MORE, BadMessage(why, status=414)))
    if len(raw) > limits.HTTP_HEAD_BYTES:
        why = f"a head of more than {limits.HTTP_HEAD_BYTES} bytes"
        faults.append((limits.HTTP_HEAD_BYTES + 1, BadMessage(why, status=431)))
    if raw[0] not in (_STARTS_OF_REQUEST if is_request else _STARTS_OF_RESPONSE):
        return BadMessage(f"a message that begins with {raw[:1]!r}")
    if faults:
        return min(faults, key=lambda fault: fault[0])[1]
    return _complain_of_lines(raw.split(b"\r\n"), is_request=is_request)


def _complain_of_lines(lines: list[bytes], *, is_request: bool) -> BadMessage:
    line = lines[0]
    good = REQUEST if is_request else RESPONSE
    if not good.fullmatch(line + b"\r\n\r\n"):
        if line.startswith(b"PRI * "):
            return BadMessage("HTTP/2 without TLS's word for it")
        if _OTHER_VERSION.fullmatch(line) and not re.search(rb"HTTP/1\.[01]", line):
            return BadMessage("a version other than HTTP/1.0 and HTTP/1.1", status=505)
        return BadMessage("a status line that is none" if not is_request else "a request line that is none")
    bad = next((line for line in lines[1:] if line and not FIELDS.fullmatch(line + b"\r\n\r\n")), None)
    if bad is None:
        return BadMessage(f"more than {limits.HTTP_FIELDS} fields", status=431)
    return BadMessage(_fault_of(bad))


def _fault_of(line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        return "a field that goes on in another line"
    if b":" not in line:
        return "a field without a colon"
    name, _, _ = line.partition(b":")
    if not name:
        return "a field without a name"
    if name.rstrip(b" \t") != name:
        return "white space before a colon"
    return "a control character in a field" if FIELDS.fullmatch(name + b":\r\n\r\n") else "a field's name that is no word"


def _has_line(data: bytes, at: int) -> bool:
    return data.find(b"\r\n", at, at + limits.HTTP_LINE_BYTES + _LINE_BYTES_MORE) >= 0


_STARTS_OF_REQUEST: Final = frozenset(byte for byte in range(256) if re.match(_TOKEN, bytes([byte])))
_STARTS_OF_RESPONSE: Final = frozenset(b"H")
