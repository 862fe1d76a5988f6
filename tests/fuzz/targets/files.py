"""What is read from disk: the configuration, and what an earlier process saved, which may be damaged in any way."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from structlog.testing import capture_logs

from nodeagent.catalog.codec import apply_delta, decode_delta, decode_snapshot, encode_delta, encode_snapshot
from nodeagent.config import load_config
from nodeagent.control import last_good
from nodeagent.control.flows import FlowBook
from nodeagent.control.key_memory import KeptSvid, KeyMemoryError, decode_keys, encode_keys
from nodeagent.control.modes import ModeBook
from nodeagent.errors import CatalogError, ConfigError
from nodeagent.process.handover import encode_handover, try_decode_handover
from redirect.record import RecordFile, decode_record, encode_record
from tests.support.mesh import config, mesh

_SNAPSHOT = mesh("shop -> web allow")
_FLOWS = 20


@contextmanager
def file_with(data: bytes) -> Iterator[Path]:
    """A file in memory."""
    descriptor = os.memfd_create("sample")
    try:
        os.write(descriptor, data)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def configuration(data: bytes) -> bool:
    """nodeagent.toml is a configuration, or a ConfigError that begins with the file's name."""
    with file_with(data) as path:
        try:
            load_config(path)
        except ConfigError as error:
            assert str(error).startswith(f"{path}: ")
            return False
    return True


def saved_catalog(data: bytes) -> bool:
    """The last good state is one of ours, or is put aside. A body without a head gets the right one: else none came past it."""
    raw = data if data.startswith(b"nodeagent") else sealed(data)
    try:
        saved = last_good.parse_last_good(raw)
    except ValueError:
        return False
    body = msgspec.msgpack.encode(saved)
    assert body == msgspec.msgpack.encode(last_good.parse_last_good(sealed(body)))
    return True


def sealed(body: bytes) -> bytes:
    """The body as the file holds it."""
    return last_good._MAGIC + hashlib.sha256(body).digest() + body


def saved_flows(data: bytes) -> bool:
    """The book of flows goes on from the file, or without it."""
    with file_with(data) as path, capture_logs() as log:
        book = FlowBook(path, lambda: 0.0, most=_FLOWS)
        book.restore()
        assert len(book.counts()) <= _FLOWS
    assert {line["event"] for line in log} <= {"flows_ignored"}
    return not log


def saved_modes(data: bytes) -> bool:
    """Modes that were switched hold; where that cannot be told, everything is strict."""
    with file_with(data) as path, capture_logs() as log:
        book = ModeBook(path, config(mode="permissive", extra='[service.web]\nmode = "observe"'), lambda: 0.0)
        book.restore()
    events = {line["event"] for line in log}
    assert events <= {"modes_unreadable", "modes_not_saved"}  # what was overtaken cannot be taken out of a file in memory
    if "modes_unreadable" in events:
        assert {book.config.host.mode, *(table.mode for table in book.config.service.values())} == {"strict"}
    return "modes_unreadable" not in events


def snapshot(data: bytes) -> bool:
    """A snapshot or a CatalogError, also when its services are decoded later."""
    try:
        found = decode_snapshot(data)
        assert all(service.name is not None for service in found.services.values())
        assert encode_snapshot(decode_snapshot(encode_snapshot(found))) == encode_snapshot(found)
    except CatalogError:  # also where a host is called otherwise than its key
        return False
    return True


def delta(data: bytes) -> bool:
    """A delta or a CatalogError; applied, another snapshot or a CatalogError."""
    try:
        found = decode_delta(data)
        assert decode_delta(encode_delta(found)) == found
        apply_delta(_SNAPSHOT, found)
    except CatalogError:
        return False
    return True


def intercept_record(data: bytes) -> bool:
    """What an apply wrote down, or nothing: the file is ours alone."""
    with file_with(data) as path, path.open("rb") as file:
        found = RecordFile(file.fileno(), path).read()
    if found is None:
        return False
    assert decode_record(encode_record(found)) == found
    return True


def handover(data: bytes) -> bool:
    """What another supervisor has left is a value, or nothing."""
    value = try_decode_handover(data)
    if value is None:
        return False
    assert try_decode_handover(encode_handover(value)) == value
    return True


def kept_keys(data: bytes) -> bool:
    """What another control has kept is roots and certificates, or an error of its own."""
    try:
        kept = decode_keys(data)
    except KeyMemoryError:
        return False
    svids = tuple(KeptSvid(name, svid.chain_pem, svid.key_pem) for name, svid in kept.svids.items())
    assert decode_keys(encode_keys(kept.roots, svids)) == kept
    return True
