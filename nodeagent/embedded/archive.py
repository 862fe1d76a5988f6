"""A catalog as one file: everything of one moment, with a digest. It holds the CA's keys, so it is its owner's alone."""

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from nodeagent.embedded.database import cure_of, open_database
from nodeagent.errors import CatalogError

STDIN = Path("-")
_FORM = b"nodeagent catalog snapshot "
_MAGIC = _FORM + b"1\n"
_HEAD_BYTES = 64 * 1024
_PART_BYTES = 1024 * 1024
_SAID_CHARS = 200
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""A file system of sticks and shares: there the look before is all there is."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
COUNTED = ("nodes", "services", "entries", "kv", "tokens", "roots")


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,253}\Z")]
_LAST = 250_000_000_000  # in the year 9892: a date that can be shown


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot says of itself; the last line before the database's bytes. Whoever wrote it: it can be shown."""

    index: _Count
    trust_domain: _Word
    datacenter: _Word
    taken_at: Annotated[float, msgspec.Meta(ge=0, le=_LAST)]
    """Unix seconds."""
    rows: dict[Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,32}\Z")], _Count]
    """How many there are, by table."""
    size: _Count
    """Bytes of the database."""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """Of these bytes."""


def save(connection: sqlite3.Connection, directory: Path, path: Path, now: float, *, replace: bool = False) -> About:
    """Writes the catalog in `directory` as it is at one moment, while others write; the file is there whole or not at all.

    SQLite sees names in `directory` alone, which is nobody else's: beside `path` somebody could have a journal ready, which it would
    play back into the copy.

    Raises:
        CatalogError: it cannot be read or written, or there is a file already and `replace` does not say that it may go.
    """
    raw, fresh = directory / "saved.db", path.with_name(f"{path.name}.new")
    try:
        with _alone(directory), _closed_to_others(), _gone_after(raw, fresh):
            about = _copied(connection, raw, now)
            _write(fresh, raw, about)
            _name(fresh, path, replace=replace)
            _keep_name(path.parent)
    except FileExistsError as error:
        raise CatalogError(f"{path}: is there already; --force replaces it") from error
    except OSError as error:
        raise CatalogError(f"{path}: the snapshot cannot be written: {error}") from error
    return about


def pour(connection: sqlite3.Connection, directory: Path, out: BinaryIO, now: float) -> About:
    """Writes the same to a stream. Whether all of it arrived, only who reads it can find.

    Raises:
        CatalogError: as `save`.
    """
    raw = directory / "saved.db"
    try:
        with _alone(directory), _closed_to_others(), _gone_after(raw):
            about = _copied(connection, raw, now)
            _put(out, raw, about)
    except OSError as error:
        raise CatalogError(f"the snapshot cannot be written to standard output: {error}") from error
    return about


def sweep(directory: Path) -> None:
    """Removes what a killed run has left, which holds the CA's keys; while another one works there, nothing."""
    with suppress(CatalogError, OSError), _alone(directory), _gone_after(directory / "saved.db"), _gone_after(directory / "restored.db"):
        pass


def read_about(path: Path) -> About:
    """What the file at `path`, or STDIN, says of itself, once all of it was read and found to be what was saved.

    Raises:
        CatalogError: not a snapshot, cut off, changed, or it cannot be read.
    """
    with _opened(path) as (file, about):
        _check_bytes(path, about, *_measured(_parts(file, about)))
        return about


@contextmanager
def unpack(path: Path, directory: Path) -> Iterator[tuple[Path, About]]:
    """The snapshot's database as a file in `directory` for as long as it is looked at: whole, sound, of this version.

    Raises:
        CatalogError: not a snapshot, cut off, changed, damaged, or of a version that this program does not know.
    """
    raw = directory / "restored.db"
    with _alone(directory), _closed_to_others(), _gone_after(raw):
        yield raw, _unpacked(path, raw)


def counts_of(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows there are, by table."""
    return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in COUNTED}  # noqa: S608 - our own words


def _copied(connection: sqlite3.Connection, raw: Path, now: float) -> About:
    """Copies the database as it is at one moment beside itself."""
    try:
        connection.execute("VACUUM INTO ?", (str(raw),))
        return _about(raw, now)
    except sqlite3.Error as error:
        cure = cure_of(error) or "; make room on that disk"
        raise CatalogError(f"{raw.parent}: the catalog cannot be copied there, with which a snapshot begins: {error}{cure}") from error


def _about(raw: Path, now: float) -> About:
    connection = sqlite3.connect(f"{raw.resolve().as_uri()}?immutable=1", uri=True)  # it is looked at, and nothing beside it
    try:
        index, domain, datacenter = connection.execute("SELECT idx, trust_domain, datacenter FROM state").fetchone()
        rows = counts_of(connection)
    finally:
        connection.close()
    with raw.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return About(index, domain, datacenter, now, rows, raw.stat().st_size, digest)


def _name(fresh: Path, path: Path, *, replace: bool) -> None:
    """Gives the file its name, and where it may not replace another, not even one that came meanwhile."""
    if replace:
        fresh.rename(path)
        return
    try:
        path.hardlink_to(fresh)
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(path):
            raise
        fresh.rename(path)


def _write(fresh: Path, raw: Path, about: About) -> None:
    descriptor = os.open(fresh, _NEW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _put(file, raw, about)
        os.fsync(descriptor)


def _put(out: BinaryIO, raw: Path, about: About) -> None:
    out.write(_MAGIC + msgspec.json.encode(about) + b"\n")
    with raw.open("rb") as source:
        shutil.copyfileobj(source, out)
    out.flush()


@contextmanager
def _source(path: Path) -> Iterator[BinaryIO]:
    """What is read; of a pipe that nobody writes to nothing, instead of waiting for who might."""
    if path == STDIN:
        if sys.stdin is None:
            raise CatalogError(f"{path}: standard input is closed")
        yield sys.stdin.buffer
        return
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        os.set_blocking(file.fileno(), True)
        yield file


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, About]]:
    try:
        with _source(path) as file:
            _check_form(path, file.read(len(_MAGIC)))
            yield file, msgspec.json.decode(file.readline(_HEAD_BYTES), type=About)
    except msgspec.MsgspecError as error:  # its words may be the file's
        said = "".join(char if char.isprintable() else "?" for char in str(error)[:_SAID_CHARS])
        raise CatalogError(f"{path}: the snapshot's first lines are damaged: {said}") from error
    except OSError as error:
        if error.errno in _NO_ROOM:  # for what is made of it
            raise
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from error


def _check_form(path: Path, first: bytes) -> None:
    if first == _MAGIC:
        return
    if first.startswith(_FORM) and first[len(_FORM) :].strip().isdigit():
        raise CatalogError(f"{path}: this snapshot is of a newer form: take the nodeagent that made it, or a later one")
    raise CatalogError(f"{path}: is not a snapshot of a catalog")


def _unpacked(path: Path, raw: Path) -> About:
    try:
        with _opened(path) as (file, about):
            _copy_checked(file, raw, about, path)
    except OSError as error:
        raise CatalogError(f"{path}: the snapshot cannot be unpacked in {raw.parent}: {error}") from error
    _check_sound(raw, path)
    return about


def _copy_checked(file: BinaryIO, raw: Path, about: About, path: Path) -> None:
    with raw.open("xb") as made:
        for part in _parts(file, about):
            made.write(part)
    with raw.open("rb") as made:
        _check_bytes(path, about, *_measured(_parts(made, about)))


def _parts(file: BinaryIO, about: About) -> Iterator[bytes]:
    """What is left in `file`, and one byte more at most than it should be: a pipe may have no end, and the disk is the catalog's."""
    left = about.size + 1
    while left and (part := file.read(min(_PART_BYTES, left))):
        left -= len(part)
        yield part


def _measured(parts: Iterable[bytes]) -> tuple[int, str]:
    """How many bytes there are, and their digest."""
    size, digest = 0, hashlib.sha256()
    for part in parts:
        size += len(part)
        digest.update(part)
    return size, digest.hexdigest()


def _check_bytes(path: Path, about: About, size: int, digest: str) -> None:
    if size < about.size:
        raise CatalogError(f"{path}: the snapshot has {size} bytes instead of {about.size}: it was cut off")
    if size > about.size:
        raise CatalogError(f"{path}: the snapshot has more than its {about.size} bytes: it was joined to something")
    if digest != about.sha256:
        raise CatalogError(f"{path}: the snapshot's bytes are not those that were saved: it was changed, or the disk is broken")


def _check_sound(raw: Path, path: Path) -> None:
    """Brings an older version's database up to date, and looks for what SQLite would find wrong only later."""
    try:
        connection = open_database(raw, create=True)
        try:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            faults += [f"row without its host in {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")]
            if connection.execute("SELECT count(*) FROM state").fetchone() != (1,):
                faults.append("no catalog in it")
        finally:
            connection.close()
    except (CatalogError, sqlite3.Error) as error:
        raise CatalogError(f"{path}: the snapshot's database cannot be used: {error}") from error
    if faults != ["ok"]:
        raise CatalogError(f"{path}: the snapshot's database is damaged: {'; '.join(faults[:3])}")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """While nobody else saves or restores there: both use names of their own."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CatalogError(f"{directory}: another snapshot is saved or restored there now; try again when it is done") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _closed_to_others() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _gone_after(raw: Path, *others: Path) -> Iterator[None]:
    """Removes a database, and other files: what a killed run has left before, and at the end what this one made."""
    paths = [*(raw.with_name(raw.name + tail) for tail in ("", "-wal", "-shm", "-journal")), *others]
    try:
        _remove(paths)
        yield
    finally:
        _remove(paths)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _keep_name(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
