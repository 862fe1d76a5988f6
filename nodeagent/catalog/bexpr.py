"""Filter expressions as Consul's users write them: `Service.Meta.zone == "a" and not ("v1" in Service.Tags)`.

Text becomes a tree; `bexpr_rows` makes a question about rows of it. Operators bind as in go-bexpr: not, and, or.
"""

import re
from typing import Literal, NamedTuple

import msgspec

from nodeagent import limits

Operator = Literal["==", "!=", "in", "not in", "is empty", "is not empty", "matches", "not matches"]
"""`contains` is `in` with its sides exchanged."""


class BadFilter(ValueError):
    """The expression is none, or not about these rows; the message says where and why."""


class Match(msgspec.Struct, frozen=True):
    """One comparison."""

    path: tuple[str, ...]
    """The field, from the row inwards; what stood in brackets is a part like the others."""
    operator: Operator
    value: str = ""


class Not(msgspec.Struct, frozen=True):
    """The opposite."""

    inner: "Expression"


class And(msgspec.Struct, frozen=True):
    """All of them."""

    parts: tuple["Expression", ...]


class Or(msgspec.Struct, frozen=True):
    """At least one of them."""

    parts: tuple["Expression", ...]


Expression = Match | Not | And | Or


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"(?P<string>\"[^\"]*\"|`[^`]*`)|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?![0-9A-Za-z_]))"
    r"|(?P<word>[A-Za-z][A-Za-z0-9_/]*)|(?P<mark>==|!=|[().\[\]])|(?P<space>[ \t\r\n]+)"
)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([abfnrtv\\]))")
_HALF = re.compile("[\ud800-\udfff]")
_CONTROLS = dict(zip("abfnrtv\\", "\a\b\f\n\r\t\v\\", strict=True))
_END = "the end"


def parse_filter(text: str) -> Expression:
    """The tree of an expression.

    Raises:
        BadFilter: not an expression, or one that is too long, too deep or of too many comparisons.
    """
    if len(text) > limits.FILTER_CHARS:
        raise BadFilter(f"a filter has at most {limits.FILTER_CHARS} characters")
    if half := _HALF.search(text):
        raise BadFilter(f"half of a surrogate pair, which is no character, at character {half.start() + 1}")
    reader = _Reader(_tokens(text))
    found = _either(reader, 0)
    reader.take("end")
    return found


class _Reader:
    """The tokens that are left. Owned by one parse."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.matches = 0

    def sees(self, *texts: str) -> bool:
        """Whether these words or marks are next."""
        ahead = self._tokens[self._at : self._at + len(texts)]
        return [(token.text, token.kind in ("word", "mark")) for token in ahead] == [(text, True) for text in texts]

    def skip(self, *texts: str) -> bool:
        """Whether these were next; then they are behind."""
        if not self.sees(*texts):
            return False
        self._at += len(texts)
        return True

    def take(self, *kinds: str) -> _Token:
        """The next token, which must be of one of these kinds."""
        token = self._tokens[self._at]
        if token.kind not in kinds:
            raise self.unexpected()
        self._at += 1
        return token

    def unexpected(self) -> BadFilter:
        """What to say of the next token."""
        token = self._tokens[self._at]
        return BadFilter(f"unexpected {token.text} at character {token.at + 1}")


def _tokens(text: str) -> list[_Token]:
    made, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadFilter(f"unexpected {text[at]!r} at character {at + 1}")
        if found.lastgroup != "space":
            made.append(_Token(str(found.lastgroup), found[0], at))
        at = found.end()
    return [*made, _Token("end", _END, at)]


def _either(reader: _Reader, depth: int) -> Expression:
    parts = [_both(reader, depth)]
    while reader.skip("or"):
        parts.append(_both(reader, depth))
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _both(reader: _Reader, depth: int) -> Expression:
    parts = [_one(reader, depth)]
    while reader.skip("and"):
        parts.append(_one(reader, depth))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _one(reader: _Reader, depth: int) -> Expression:
    if depth > limits.FILTER_DEPTH:
        raise BadFilter(f"a filter is at most {limits.FILTER_DEPTH} deep")
    if reader.skip("not"):
        return Not(_one(reader, depth + 1))
    if not reader.skip("("):
        return _match(reader)
    inner = _either(reader, depth + 1)
    if not reader.skip(")"):
        raise reader.unexpected()
    return inner


def _match(reader: _Reader) -> Match:
    reader.matches += 1
    if reader.matches > limits.FILTER_MATCHES:
        raise BadFilter(f"a filter has at most {limits.FILTER_MATCHES} comparisons")
    if reader.sees("(") or reader.sees(")"):
        raise reader.unexpected()
    value, path = _value(reader)
    if path and (found := _about_field(reader, path)):
        return found
    for operator, words in _IN.items():
        if reader.skip(*words):
            return Match(_path(reader), operator, value)
    raise reader.unexpected()


_IN: dict[Operator, tuple[str, ...]] = {"in": ("in",), "not in": ("not", "in")}
_ALONE: dict[Operator, tuple[str, ...]] = {"is empty": ("is", "empty"), "is not empty": ("is", "not", "empty")}
_WITH_VALUE: tuple[tuple[Operator, tuple[str, ...]], ...] = (
    ("==", ("==",)), ("!=", ("!=",)), ("in", ("contains",)), ("not in", ("not", "contains")),
    ("matches", ("matches",)), ("not matches", ("not", "matches")),
)  # fmt: skip


def _about_field(reader: _Reader, path: tuple[str, ...]) -> Match | None:
    """The comparison that begins with the field; None: it begins with a value."""
    for operator, words in _ALONE.items():
        if reader.skip(*words):
            return Match(path, operator)
    for operator, words in _WITH_VALUE:
        if reader.skip(*words):
            return Match(path, operator, _value(reader)[0])
    return None


def _value(reader: _Reader) -> tuple[str, tuple[str, ...]]:
    """A value; where it is a bare word also the field that it may be instead."""
    if reader.sees("("):
        raise reader.unexpected()
    token = reader.take("string", "number", "word")
    if token.kind == "string":
        return _unquoted(token), ()
    if token.kind == "number":
        return token.text, ()
    path = (token.text, *_rest(reader))
    return ".".join(path), path


def _path(reader: _Reader) -> tuple[str, ...]:
    return (reader.take("word").text, *_rest(reader))


def _rest(reader: _Reader) -> list[str]:
    parts = []
    while True:
        if reader.skip("."):
            parts.append(reader.take("word").text)
        elif reader.skip("["):
            parts.append(_unquoted(reader.take("string")))
            if not reader.skip("]"):
                raise reader.unexpected()
        else:
            return parts


def _unquoted(token: _Token) -> str:
    inside = token.text[1:-1]
    if token.text[0] == "`":
        return inside
    if "\\" in _ESCAPE.sub("", inside):
        raise BadFilter(f"unknown escape in {token.text} at character {token.at + 1}")
    unquoted = _ESCAPE.sub(_character, inside)
    if _HALF.search(unquoted):
        raise BadFilter(f"half of a surrogate pair, which is no character, in {token.text} at character {token.at + 1}")
    return unquoted


def _character(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    return chr(int(code, 16)) if code else _CONTROLS[found[3]]
