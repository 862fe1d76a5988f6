"""A document against the parts that shall take it: keys in any of Consul's spellings, and every fault with its path."""

import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from nodeagent import limits
from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.model.policy.values import Duration, Label, Part, Scope, parse_duration
from nodeagent.tables import explain_value, suggest

P = TypeVar("P", bound=Part)
_SHOWN_CHARS = 80
_LARGEST = 2**63 - 1  # what readers keep exactly, at most
_RULES = {
    Label: "not a name of a subset: use lower-case letters, digits and inner -, 63 at most",
    Scope: "there is one namespace and one partition here, and both are called default",
}


def fit(document: Mapping[Any, object], shape: type[P]) -> tuple[P, list[Fault]]:
    """The document as a `shape`, and what is wrong with it; where anything is, blanks stand in its place.

    `PathExact`, `path_exact` and `pathExact` are one key. null is what was not said. As HCL in JSON has it, a list of one
    object may stand for the object, and an object for the list.
    """
    fitter = _Fitter()
    return fitter.part(document, shape, ""), fitter.faults


def fold(key: str) -> str:
    """A key without what its spellings differ in."""
    return key.replace("_", "").lower()


class _Fitter:
    """One document's way into its parts; collects what is wrong."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._nodes = 0

    def part(self, document: Mapping[Any, object], shape: type[P], path: str) -> P:
        fields, given = _fields_of(shape), dict[str, object]()
        for key, value in document.items():
            field = fields.get(fold(key)) if isinstance(key, str) else None
            if field is None:
                known = [each.encode_name for each in fields.values()]
                self._fault(path, str(key), f"no such key{suggest(str(key)[:_SHOWN_CHARS], known) or '; known here: ' + ', '.join(known)}")
            elif field.name in given:
                self._fault(path, field.encode_name, "stands twice, in two spellings")
            elif value is not None:
                given[field.name] = self.value(value, field.type, below(path, field.encode_name))
        for field in fields.values():
            if field.required and field.name not in given:
                self._fault(path, field.encode_name, "is missing")
        return _make(shape, given)

    def value(self, value: object, hint: Any, path: str) -> Any:
        if not self._has_room(path):
            return _blank(hint)
        bare = _without_none(hint)
        if isinstance(bare, type) and issubclass(bare, Part):
            return self._object(value, bare, path)
        if get_origin(bare) is tuple:
            return self._list(value, get_args(bare)[0], path)
        if get_origin(bare) is dict:
            return self._table(value, *get_args(bare), path=path)
        return self._leaf(value, bare, path)

    def _object(self, value: object, shape: type[Part], path: str) -> Part:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, Mapping):
            return self.part(value, shape, path)
        self._fault(path, "", f"must be an object with keys such as {', '.join(list(_names_of(shape))[:3])}")
        return _make(shape, {})

    def _list(self, value: object, hint: Any, path: str) -> tuple[Any, ...]:
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, (list, tuple)):
            self._fault(path, "", "must be a list")
            return ()
        if len(value) > limits.POLICY_ROWS:
            self._fault(path, "", f"has {len(value)} rows, and may have {limits.POLICY_ROWS}")
            return ()
        return tuple(self.value(each, hint, below(path, number)) for number, each in enumerate(value))

    def _table(self, value: object, key_hint: Any, hint: Any, *, path: str) -> dict[str, Any]:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Mapping):
            self._fault(path, "", "must be an object")
            return {}
        if hint is Any:
            return {str(key): self._free(each, below(path, str(key)), 1) for key, each in value.items()}
        found: dict[str, Any] = {}
        for key, each in value.items():
            at, known = below(path, str(key)[:_SHOWN_CHARS]), len(self.faults)
            name = self._leaf(key, key_hint, at)
            fitted = self.value({} if each is None else each, hint, at)
            found |= {name: fitted} if len(self.faults) == known else {}
        return found

    def _free(self, value: object, path: str, depth: int) -> object:
        """What is kept as it is, when JSON can say it."""
        if depth > limits.POLICY_DEPTH:
            self._fault(path, "", f"is nested deeper than {limits.POLICY_DEPTH}")
            return None
        if not self._has_room(path):
            return None
        if isinstance(value, Mapping):
            return {str(key): self._free(each, below(path, str(key)), depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._free(each, below(path, number), depth + 1) for number, each in enumerate(value)]
        if value is None or isinstance(value, (bool, int, str, float)):
            return self._sound(value, path)
        self._fault(path, "", "is nothing that JSON can say")
        return None

    def _leaf(self, value: object, hint: Any, path: str) -> Any:
        try:
            if hint is Duration:
                return parse_duration(value)
            return self._sound(msgspec.convert(value, hint), path)
        except msgspec.ValidationError as error:
            self._fault(path, "", _RULES.get(hint) or explain_value(str(error), hint) + _meant(value, hint))
        except ValueError as error:
            self._fault(path, "", str(error))
        return _blank(hint)

    def _sound(self, value: Any, path: str) -> Any:
        """`value`, when JSON can say it to every reader: no endless or very large number, no half of a character."""
        if isinstance(value, float) and not math.isfinite(value):
            self._fault(path, "", "is no number")
        if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
            self._fault(path, "", "is too large a number")
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            self._fault(path, "", "has half of a surrogate pair, which is no character")
        return value

    def _has_room(self, path: str) -> bool:
        """Whether one more value is looked at; says once that it is not."""
        self._nodes += 1
        if self._nodes == limits.POLICY_NODES + 1:
            self._fault(path, "", f"here the entry has more than {limits.POLICY_NODES} values")
        return self._nodes <= limits.POLICY_NODES

    def _fault(self, path: str, key: str, says: str) -> None:
        if len(self.faults) < limits.POLICY_FAULTS:
            self.faults.append(Fault(_clipped(below(path, key) if key else path), says))


@functools.cache
def _fields_of(shape: type[Part]) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {fold(field.encode_name): field for field in msgspec.structs.fields(shape)}


def _names_of(shape: type[Part]) -> list[str]:
    return [field.encode_name for field in _fields_of(shape).values()]


def _make(shape: type[P], given: dict[str, object]) -> P:
    blanks = {field.name: _blank(field.type) for field in _fields_of(shape).values() if field.required}
    return shape(**{**blanks, **given})


def _blank(hint: Any) -> Any:
    """What stands for a value that is not there, in an entry that is refused anyway."""
    bare = _without_none(hint)
    origin = get_origin(bare)
    if origin is tuple:
        return ()
    if origin is dict:
        return {}
    if isinstance(bare, type) and issubclass(bare, Part):
        return _make(bare, {})
    kind = type(get_args(bare)[0]) if origin is Literal else _unannotated(bare)
    return kind()


def _without_none(hint: Any) -> Any:
    """The type of a value that is there."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(each for each in get_args(hint) if each is not type(None))
    return hint


def _unannotated(hint: Any) -> Any:
    """The type below its bounds."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    return get_origin(hint) or hint


def _meant(value: object, hint: Any) -> str:
    return suggest(value[:_SHOWN_CHARS], get_args(hint)) if get_origin(hint) is Literal and isinstance(value, str) else ""


def _clipped(path: str) -> str:
    """A path that fits on a line: its keys are somebody's words."""
    shown = "".join(char if char.isprintable() else "?" for char in path)
    return shown if len(shown) <= 4 * _SHOWN_CHARS else f"{shown[: 4 * _SHOWN_CHARS]}…"
