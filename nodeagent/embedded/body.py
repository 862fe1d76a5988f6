"""Request bodies: strict JSON into declared shapes; what is unknown or unsupported is refused by name."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from nodeagent.embedded.keys import fold_keys
from nodeagent.embedded.names import decode_name
from nodeagent.embedded.refusal import BadRequest, Missing
from nodeagent.tables import suggest

S = TypeVar("S", bound=msgspec.Struct)
_SHOWN_CHARS = 80
DEFAULT_NAMES = ("", "default")
"""Namespace and partition: Consul's community edition knows no other."""


def parse_object(text: bytes) -> dict[str, Any]:
    """The JSON object in `text`.

    Duplicate keys, NaN, endless numbers, halves of characters and bottomless nesting are refused: readers differ about them.

    Raises:
        BadRequest: not such an object.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    if b"\\ud" in text.lower():
        _check_characters(value)
    return value


def shaped(value: Any, shape: type[S], unsupported: tuple[str, ...] = (), where: str = "") -> S:
    """`value` as a `shape`; null means absent, and keys may have any case, as in Go.

    Raises:
        BadRequest: unknown key, wrong type or value.
        Missing: a key of `unsupported` with more than an empty or default value.
    """
    if not isinstance(value, Mapping):
        raise BadRequest(f"{where or 'the body'} must be a JSON object")
    given = {key: item for key, item in value.items() if item is not None}
    kept = fold_keys(given, shape, unsupported)
    for key in unsupported:
        _check_unused(key, kept.pop(key, None), where)
    try:
        return msgspec.convert(kept, shape, dec_hook=decode_name)
    except msgspec.ValidationError as error:
        raise BadRequest(_explain(str(error), shape, where)) from None


def _check_unused(key: str, value: object, where: str) -> None:
    if key in ("Namespace", "Partition") and value in DEFAULT_NAMES:
        return
    if value:
        raise Missing(f"{_dotted(where, key)} is not implemented by this catalog: leave it out")


def _explain(message: str, shape: type[msgspec.Struct], where: str) -> str:
    what, _, path = message.partition(" - at `$")
    key = _dotted(where, path.rstrip("`").lstrip("."))
    unknown = re.search(r"unknown field `(.+?)`", what)
    if not unknown:
        return f"{key or 'the body'}: {what}"
    named = unknown[1][:_SHOWN_CHARS]
    return f"{_dotted(key, named)}: no such key{suggest(named, shape.__struct_encode_fields__)}"


def _dotted(where: str, key: str) -> str:
    return f"{where}.{key}" if where and key else where or key


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key[:80]!r} stands twice")
        made[key] = value
    return made


def _check_characters(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("the body is not JSON: it has half of a surrogate pair, which is no character") from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # would be stored, and told to readers, as null
        raise ValueError(f"{text[:80]} is too large a number")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
