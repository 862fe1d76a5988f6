"""What the catalog said last, on disk: an agent that starts without the catalog decides by it.

The catalog's words are saved and not the snapshot compiled from them, so that a changed configuration of this host
holds for them too.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from nodeagent import limits
from nodeagent.catalog.state import CatalogState
from nodeagent.control.durable import replace_file
from nodeagent.model.policy.values import from_plain, to_plain

_MAGIC = b"nodeagent snapshot 1\n"
_SUM_BYTES = 32
_ARRAY, _MAP = 0xDD, 0xDF  # MessagePack's array 32 and map 32
_encode = msgspec.msgpack.Encoder(enc_hook=to_plain).encode


class LastGood(msgspec.Struct, frozen=True):
    """What was in force. Nothing in it is secret."""

    saved_at: float
    """Unix seconds."""
    trust_domain: str
    generation: int
    state: CatalogState
    indexes: dict[str, int] = {}
    """Of the catalog, by path: that one which is there at the next start may be older."""


class SpoiledError(Exception):
    """The file is not one that we wrote; it says where it was put."""


def write_last_good(path: Path, saved: LastGood) -> None:
    """Replaces the file in one step; after a crash there is the old one or the new one.

    Raises:
        OSError: the directory cannot be written.
    """
    replace_file(path, encode_last_good(saved), 0o644)  # nothing in it is secret


def encode_last_good(saved: LastGood) -> list[bytes]:
    """The file's content, in pieces: while one is encoded, or copied, no other thread has a turn, and the whole takes 20 ms."""
    pieces, digest = [], hashlib.sha256()
    for batch in _batches(_pieces(saved)):
        pieces.append(b"".join(batch))
        digest.update(pieces[-1])
        time.sleep(limits.SWITCH_S)  # whoever only lets go of the interpreter's lock has it again before a loop wakes up
    return [_MAGIC, digest.digest(), *pieces]


def _pieces(value: object) -> Iterator[bytes]:
    """The value as `msgspec.msgpack.encode` gives it; whatever may be long, item by item."""
    match value:
        case LastGood() | CatalogState():
            names = type(value).__struct_fields__
            yield _head(_MAP, len(names))
            for name in names:
                yield _encode(name)
                yield from _pieces(getattr(value, name))
        case Mapping():
            yield _head(_MAP, len(value))
            for key, item in value.items():
                yield _encode(key)
                yield _encode(item)
        case tuple():
            yield _head(_ARRAY, len(value))
            yield from map(_encode, value)
        case _:
            yield _encode(value)


def _head(kind: int, length: int) -> bytes:
    """How a map or an array of that length begins, in its longest form."""
    return kind.to_bytes(1, "big") + length.to_bytes(4, "big")


def _batches(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    return iter(lambda: tuple(islice(pieces, limits.DECODE_ROWS)), ())


def read_last_good(path: Path) -> LastGood | None:
    """What was saved; None when nothing was.

    Raises:
        SpoiledError: truncated, changed or of another version; the file was renamed aside and will not be read again.
        OSError: there, but unreadable.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(limits.FRAME_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        return parse_last_good(raw)
    except ValueError as error:
        aside = path.with_suffix(".spoiled")
        path.replace(aside)
        raise SpoiledError(f"{path}: {error}; ignored and renamed to {aside.name}") from error


def parse_last_good(raw: bytes) -> LastGood:
    """The saved value in a file's bytes.

    Raises:
        ValueError: another version, truncated or changed.
    """
    magic, body = raw[: len(_MAGIC)], raw[len(_MAGIC) + _SUM_BYTES :]
    if magic != _MAGIC:
        raise ValueError("not a snapshot of this version")
    if len(raw) > limits.FRAME_BYTES:
        raise ValueError(f"more than {limits.FRAME_BYTES} bytes")
    if hashlib.sha256(body).digest() != raw[len(_MAGIC) : len(_MAGIC) + _SUM_BYTES]:
        raise ValueError("its checksum is wrong: truncated or changed")
    try:
        return msgspec.msgpack.decode(body, type=LastGood, dec_hook=from_plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
