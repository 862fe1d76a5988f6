"""Tables of TOML against the structs that shall take them: all that does not fit, each with its key, in the operator's words."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from nodeagent.model.names import HOST_NAME_PATTERN, HOST_NAME_RULE, NAME_PATTERN, NAME_RULE

_KINDS = {
    "str": "a text in quotes", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "a table",
}  # fmt: skip
"""msgspec's words for what TOML holds, in the operator's."""


StandIns = Mapping[type[msgspec.Struct], Mapping[str, object]]
_NOTHING = object()


def faults_of(table: Mapping[str, object], kind: type[msgspec.Struct], key: str = "") -> Iterator[str]:
    """What is wrong with the table at `key`, a sentence each that begins with the very key; none: msgspec converts it."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, value in table.items():
        if name in fields:
            yield from _value_faults(value, fields[name].type, _below(key, name))
        else:
            known = suggest(name, fields) or f"; known here: {', '.join(fields)}"
            yield f"{_below(key, name)}: no such setting{known}"
    for name, field in fields.items():
        if field.required and name not in table:
            yield f"{_below(key, name)}: is missing, and has no default: give it{f' under [{key}]' if key else ''}"


def fitting(table: Mapping[str, object], kind: type[msgspec.Struct], stand_ins: StandIns) -> dict[str, object]:
    """The table without what is wrong in it: msgspec converts it, so that the rest can be judged.

    stand_ins: for structs with required fields, what these are where they are missing or wrong.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found = {name: _fitting(value, types[name], stand_ins) for name, value in table.items() if name in types}
    return {**stand_ins.get(kind, {}), **{name: value for name, value in found.items() if value is not _NOTHING}}


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one of `known` that was probably meant, else nothing."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def _value_faults(value: object, hint: Any, key: str) -> Iterator[str]:
    container, parts = get_origin(hint), get_args(hint)
    if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield from faults_of(value, hint, key)
    elif isinstance(value, list) and container is tuple:
        for number, each in enumerate(value):
            yield from _value_faults(each, parts[0], f"{key}[{number}]")
    elif isinstance(value, dict) and container is dict:
        for name, each in value.items():
            yield from _value_faults(name, parts[0], f"{key}.{name!r}")
            yield from _value_faults(each, parts[1], f"{key}.{name}")
    else:
        try:
            msgspec.convert(value, hint)
        except msgspec.ValidationError as error:
            yield _explain(str(error), hint, key)


def _fitting(value: object, hint: Any, stand_ins: StandIns) -> object:
    """What is right in the value; a row with faults keeps its place, as messages count them."""
    container, parts = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return fitting(value if isinstance(value, dict) else {}, hint, stand_ins)
    if isinstance(value, list) and container is tuple:
        kept = [fit for each in value if (fit := _fitting(each, parts[0], stand_ins)) is not _NOTHING]
        return kept if kept or not value else _NOTHING
    if isinstance(value, dict) and container is dict:
        named = {name: each for name, each in value.items() if not any(_value_faults(name, parts[0], ""))}
        return {name: _fitting(each, parts[1], stand_ins) for name, each in named.items()}
    return _NOTHING if any(_value_faults(value, hint, "")) else value


def explain_value(message: str, hint: Any) -> str:
    """What msgspec says of a value, in the operator's words, with the values that there are."""
    for pattern, rule in ((HOST_NAME_PATTERN, HOST_NAME_RULE), (NAME_PATTERN, NAME_RULE)):
        if pattern in message:
            return f"not a name: use {rule}"
    what = re.sub(r"`(\w+)`", lambda kind: _KINDS.get(kind[1], kind[0]), message.partition(" - at `$")[0])
    return f"{what}{_choices(hint) if what.startswith('Invalid enum') else ''}"


def _explain(message: str, hint: Any, key: str) -> str:
    """The message of msgspec with the key first."""
    says, (_, _, within) = explain_value(message, hint), message.partition(" - at `$")
    return f"{key}{'' if says.startswith('not a name') else within.rstrip('`')}: {says}"


def _choices(hint: Any) -> str:
    """The values that a setting takes, for a message."""
    values, can_be_list = _literals(hint), any(get_origin(part) is tuple for part in get_args(hint))
    return f"; it is one of {', '.join(values)}{', or a list' if can_be_list else ''}" if values else ""


def _literals(hint: Any) -> list[str]:
    """The values of every Literal in a type."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint) if value]
    return [value for part in get_args(hint) for value in _literals(part)]


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
