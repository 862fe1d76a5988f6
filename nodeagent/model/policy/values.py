"""What entries are made of: their base, durations, and the values that several kinds share."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from nodeagent import limits
from nodeagent.model.names import NAME_PATTERN

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Text = Annotated[str, msgspec.Meta(max_length=limits.POLICY_TEXT_CHARS)]
Name = Annotated[str, msgspec.Meta(pattern=rf"^({NAME_PATTERN})\Z")]
NameOrAny = Annotated[str, msgspec.Meta(pattern=rf"^({NAME_PATTERN}|\*)\Z")]
NameOrNone = Annotated[str, msgspec.Meta(pattern=rf"^({NAME_PATTERN})?\Z")]
"""Empty: the service that the entry is of."""
Label = Annotated[str, msgspec.Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?)?\Z")]
"""Of subsets: they become a part of a server name."""
Scope = Annotated[str, msgspec.Meta(pattern=r"^(default)?\Z")]
"""Namespace and partition: Consul's community edition has one of each."""
Protocol = Literal["", "tcp", "http", "http2", "grpc"]
Meta = Annotated[
    dict[
        Annotated[str, msgspec.Meta(min_length=1, max_length=limits.META_KEY_BYTES)],
        Annotated[str, msgspec.Meta(max_length=limits.META_VALUE_BYTES)],
    ],
    msgspec.Meta(max_length=limits.META_PAIRS),
]
Free = dict[str, Any]
"""What is kept and not read here."""

_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9}
_TERM = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|ms|s|m|h)", re.ASCII)
_EXACT = 2**53  # floats below are exact
_LONGEST_NS = 2**63 - 1  # Go's time.Duration


class Duration(int):
    """A span of time in nanoseconds, as Go counts; 0 is what was not said."""

    __slots__ = ()

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self / 1e9

    def __str__(self) -> str:
        """In Go's words: `1h0m0s`, `1m30s`, `1.5s`, `250ms`."""
        for unit in ("ns", "us", "ms"):
            if self < _UNITS_NS[unit] * 1000:
                return f"{_decimal(self, _UNITS_NS[unit])}{unit}" if self else "0s"
        minutes, rest = divmod(int(self), _UNITS_NS["m"])
        seconds = f"{_decimal(rest, _UNITS_NS['s'])}s"
        hours, minutes = divmod(minutes, 60)
        return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}" if minutes else seconds


def parse_duration(said: object) -> Duration:
    """A duration as Consul takes it: `1m30s`, or a whole number of nanoseconds.

    Raises:
        ValueError: neither, negative, or longer than Go can say.
    """
    if isinstance(said, int) and not isinstance(said, bool):
        made = int(said)
    elif isinstance(said, str):
        made = 0 if said in ("", "0") else _sum_of_terms(said[:64])
    else:
        raise ValueError("a duration is a text such as 30s, 1m30s or 250ms")  # noqa: TRY004 - msgspec's hooks want it
    if not 0 <= made <= _LONGEST_NS:
        raise ValueError(f"{str(said)[:64]} is no duration: from 0 to 292 years")
    return Duration(made)


def to_plain(value: object) -> object:
    """Msgspec's enc_hook, for what contains parts of entries."""
    if isinstance(value, Duration):
        return int(value)
    raise NotImplementedError(f"{type(value)} cannot be encoded")


def from_plain(kind: type, value: object) -> object:
    """Msgspec's dec_hook, for the same; `value` is what `to_plain` gave.

    Raises:
        ValueError: it is not.
    """
    if kind is Duration:
        return parse_duration(value)
    raise NotImplementedError(f"{kind} cannot be decoded")


class Part(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """A part of an entry, or the whole of it: keys as Consul writes them."""


class HeaderEdits(Part, frozen=True):
    """What is done to the headers of a message."""

    add: dict[str, Text] = {}
    set_: dict[str, Text] = msgspec.field(name="Set", default_factory=dict)
    remove: tuple[Text, ...] = ()


def body_of(part: Part) -> dict[str, Any]:
    """The part as JSON has it: what was said, in the order of the fields, and nothing else."""
    found = [(field, getattr(part, field.name)) for field in msgspec.structs.fields(part)]
    return {field.encode_name: _plain(value) for field, value in found if not _is_unsaid(value, field)}


def _is_unsaid(value: object, field: msgspec.structs.FieldInfo) -> bool:
    """Whether it is the empty value of its type, which Go takes for unsaid; not where None means that."""
    if field.required or field.default is None:
        return value is None
    return isinstance(value, (str, int, float, tuple, dict)) and not value


def _plain(value: object) -> object:
    if isinstance(value, Part):
        return body_of(value)
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _sum_of_terms(text: str) -> int:
    terms = list(_TERM.finditer(text))
    if not terms or "".join(term[0] for term in terms) != text:
        raise ValueError(f"{text!r} is no duration: write it as 30s, 1m30s or 250ms")
    return sum(_nanoseconds(term[1], _UNITS_NS[term[2]]) for term in terms)


def _nanoseconds(number: str, unit: int) -> int:
    whole, _, part = number.partition(".")
    return int(whole or 0) * unit + (int(part) * unit // 10 ** len(part) if part else 0)


def _decimal(number: int, unit: int) -> str:
    """`number` / `unit`, exact, without zeros at its end. unit: a power of ten."""
    whole, rest = divmod(int(number), unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)
