"""Keys of request bodies as Consul's own decoder reads them: in any case, and of some clients with underscores."""

from typing import Any

import msgspec
from msgspec import inspect

from nodeagent import limits
from nodeagent.embedded.refusal import BadRequest


def fold_keys(value: Any, shape: type[msgspec.Struct], others: tuple[str, ...] = ()) -> Any:
    """`value` with the keys of `shape`, and of the shapes within it, spelled as `shape` does; `others` are keys, too.

    What is in free tables, such as Meta, stays as it is.

    Raises:
        BadRequest: two spellings of one key, or more values than any body has.
    """
    return _folded(value, inspect.type_info(shape), others)


def _folded(value: Any, kind: inspect.Type, others: tuple[str, ...] = ()) -> Any:
    if isinstance(value, (dict, list)) and len(value) > limits.BODY_ITEMS:
        raise BadRequest(f"the body has {len(value)} values in one place, and may have {limits.BODY_ITEMS}")
    match kind, value:
        case inspect.StructType(fields=fields), dict():
            return _struct(value, {field.encode_name: field.type for field in fields}, others)
        case inspect.DictType(value_type=inner), dict():
            return {key: _folded(item, inner) for key, item in value.items()}
        case inspect.VarTupleType(item_type=inner), list():
            return [_folded(item, inner) for item in value]
        case inspect.UnionType(types=types), _:
            shapes = [each for each in types if isinstance(each, inspect.StructType)]
            return _folded(value, shapes[0]) if shapes else value
        case inspect.Metadata(type=inner), _:
            return _folded(value, inner)
    return value


def _struct(value: dict[str, Any], kinds: dict[str, inspect.Type], others: tuple[str, ...]) -> dict[str, Any]:
    spelled = {_bare(name): name for name in (*kinds, *others)}
    made: dict[str, Any] = {}
    for key, item in value.items():
        name = spelled.get(_bare(key), key)
        if name in made:
            raise BadRequest(f"the key {name[:80]!r} stands twice, in two spellings")
        made[name] = _folded(item, kinds[name]) if name in kinds else item
    return made


def _bare(key: str) -> str:
    return key.replace("_", "").lower()
