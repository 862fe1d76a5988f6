"""What a filter expression says of rows: a question that is answered for each, after it was checked against their fields."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, assert_never

import msgspec

from nodeagent import limits
from nodeagent.catalog.bexpr import And, BadFilter, Expression, Match, Not, Operator, Or, parse_filter
from nodeagent.model.patterns import BadPattern, compile_pattern

Row = Mapping[str, Any]
_Ask = Callable[[Any], bool]


class Table(msgspec.Struct, frozen=True):
    """A table with keys of its own, such as Meta."""

    of: "Field"


class Rows(msgspec.Struct, frozen=True):
    """A list of tables; a comparison below it holds when it holds for one of them."""

    of: "Fields"


R = TypeVar("R", bound=Row)
Leaf = Literal["text", "number", "truth", "texts"]
Fields = Mapping[str, "Field"]
Field = Leaf | Table | Rows | Fields

OPERATORS: dict[str, tuple[Operator, ...]] = {
    "text": ("==", "!=", "in", "not in", "matches", "not matches"),
    "number": ("==", "!="),
    "truth": ("==", "!="),
    "texts": ("in", "not in", "is empty", "is not empty"),
    "table": ("in", "not in", "is empty", "is not empty"),
    "rows": ("is empty", "is not empty"),
}
"""What each kind of field can be asked, as with Consul: `"x" in` is a part of a text, a member of a list, a key of a table."""

_EMPTY: dict[str, object] = {"text": "", "number": 0, "truth": False}
"""What a row leaves out, as Go sees it."""
_TRUTHS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_OPPOSITES: dict[Operator, Operator] = {"!=": "==", "not in": "in", "is not empty": "is empty", "not matches": "matches"}


class Question:
    """Whether a row is what a filter asks for. Owned by one request."""

    def __init__(self, asks: _Ask, meter: "_Meter") -> None:
        self._asks = asks
        self._meter = meter

    def __call__(self, row: Row) -> bool:
        """Whether this one is.

        Raises:
            BadFilter: its patterns took too long with the rows since the last list.
        """
        return self._asks(row)

    @property
    def steps(self) -> int:
        """What its patterns have taken since the last list began."""
        return self._meter.steps

    def chosen(self, rows: Iterable[R], most: int = 0) -> list[R]:
        """Those that are, as JSON would have them. most: steps that it may take; 0: FILTER_STEPS.

        Raises:
            BadFilter: its patterns take too long with so many rows.
        """
        self._meter.steps, self._meter.most = 0, most
        return [row for row in rows if self._asks(msgspec.to_builtins(row))]


def question(text: str, fields: Fields) -> Question:
    """The question that the filter `text` asks of rows of such fields.

    Raises:
        BadFilter: not an expression, or it names a field or asks what the field cannot be asked, or its patterns take too much.
    """
    meter = _Meter()
    return Question(_asked(parse_filter(text), fields, meter), meter)


class _Meter:
    """What a filter's patterns take: RE2 looks at each character once for each step of a pattern, at worst. Owned by one question."""

    def __init__(self) -> None:
        self.steps = self.most = 0
        self._size = 0
        self._count = 0

    def matcher(self, text: str) -> Callable[[str], bool]:
        """Whether a value matches the pattern `text`."""
        try:
            pattern = compile_pattern(text, limits.FILTER_PATTERN_BYTES)
        except BadPattern as error:
            raise BadFilter(str(error)) from None
        size = int(pattern.programsize)
        self._count, self._size = self._count + 1, self._size + size
        if self._count > limits.FILTER_PATTERNS or self._size > limits.FILTER_PROGRAM:
            raise BadFilter(f"a filter has at most {limits.FILTER_PATTERNS} patterns, of {limits.FILTER_PROGRAM} steps together")
        return lambda value: self._found(pattern, size, value)

    def _found(self, pattern: Any, size: int, value: str) -> bool:
        self.steps += size * len(value)
        if self.steps > (self.most or limits.FILTER_STEPS):
            raise BadFilter("its patterns take too long with so many rows: ask for fewer, or more simply")
        return pattern.search(value) is not None


def selectors(fields: Fields) -> dict[str, str]:
    """Every field that a filter may name, with the kind of its operators; `<any>` stands for a table's keys."""
    found: dict[str, str] = {}
    for name, field in fields.items():
        for path, kind in _below(field):
            found[f"{name}{path}"] = kind
    return found


def _below(field: Field) -> list[tuple[str, str]]:
    match field:
        case str():
            return [("", field)]
        case Table(of):
            return [("", "table"), *((f".<any>{path}", kind) for path, kind in _below(of))]
        case Rows(of):
            return [("", "rows"), *((f".{path}", kind) for path, kind in selectors(of).items())]
        case _:
            return [(f".{path}", kind) for path, kind in selectors(field).items()]


def _asked(tree: Expression, fields: Fields, meter: _Meter) -> _Ask:
    match tree:
        case Match():
            return _compared(tree.path, tree, fields, meter)
        case Not(inner):
            ask = _asked(inner, fields, meter)
            return lambda row: not ask(row)
        case And(parts):
            every = [_asked(part, fields, meter) for part in parts]
            return lambda row: all(ask(row) for ask in every)
        case Or(parts):
            some = [_asked(part, fields, meter) for part in parts]
            return lambda row: any(ask(row) for ask in some)
        case _:
            assert_never(tree)


def _compared(path: Sequence[str], match: Match, field: Field, meter: _Meter) -> _Ask:
    """The question about what lies at `path` below a value of the kind `field`."""
    if not path:
        return _leaf(match, field, meter)
    name, rest = path[0], path[1:]
    match field:
        case Table(of):
            inner, absent = _compared(rest, match, of, meter), match.operator in _OPPOSITES or match.operator == "is empty"
            return lambda value: inner(value[name]) if value and name in value else absent
        case Rows(of):
            inner = _compared(path, match, of, meter)
            return lambda value: any(inner(item) for item in value or ())
        case str():
            raise BadFilter(f"{'.'.join(match.path)}: no such field: there is nothing below a {field}")
        case _ if name in field:
            inner, empty = _compared(rest, match, field[name], meter), _empty(field[name])
            return lambda value: inner(value.get(name, empty))
        case _:
            raise BadFilter(f"{'.'.join(match.path)}: no such field; here is {', '.join(field)}")


def _empty(field: Field) -> object:
    return {} if isinstance(field, Mapping) else _EMPTY.get(str(field))


def _leaf(match: Match, field: Field, meter: _Meter) -> _Ask:
    kind = field if isinstance(field, str) else "table" if isinstance(field, Table) else "rows"
    can = OPERATORS[kind] if not isinstance(field, Mapping) else ()
    if match.operator not in can:
        raise BadFilter(f"{'.'.join(match.path)}: cannot be asked {match.operator}; it can be asked {', '.join(can) or 'nothing'}")
    if match.operator in _OPPOSITES:
        ask = _plain(msgspec.structs.replace(match, operator=_OPPOSITES[match.operator]), kind, meter)
        return lambda value: not ask(value)
    return _plain(match, kind, meter)


def _plain(match: Match, kind: str, meter: _Meter) -> _Ask:
    match match.operator:
        case "==":
            wanted = _value(match, kind)
            return lambda value: bool(value == wanted)
        case "in" if kind == "text":
            return lambda value: match.value in value
        case "in":
            return lambda value: match.value in (value or ())
        case "is empty":
            return lambda value: not value
        case _:
            return meter.matcher(match.value)


def _value(match: Match, kind: str) -> str | int | bool:
    text, where = match.value, ".".join(match.path)
    if kind == "number":
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise BadFilter(f"{where}: {text!r} is not a whole number")
        return int(text)
    if kind == "truth":
        if text.lower() not in _TRUTHS:
            raise BadFilter(f"{where}: {text!r} is neither true nor false")
        return _TRUTHS[text.lower()]
    return text
