"""The directory that holds a catalog: one server at a time, secrets for its owner alone, files whole or not at all."""

import fcntl
import os
import pwd
import sqlite3
import stat
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from nodeagent.control.durable import replace_file
from nodeagent.embedded.authority import Realm, found_realm, read_listener_root
from nodeagent.embedded.check import CheckRow
from nodeagent.embedded.database import CURE, Change, check_sound, commit, open_database, query
from nodeagent.embedded.refusal import Refusal
from nodeagent.embedded.registration import NodeRow, ServiceRow
from nodeagent.embedded.tokens import create_token
from nodeagent.errors import CatalogError
from nodeagent.observe.log import open_log

DATABASE = "catalog.db"
MANAGEMENT_TOKEN = "management.token"  # noqa: S105 - a file's name
TLS_CA = "tls-ca.pem"
_LOCK = "catalog.lock"
_ROWS: dict[str, type] = {"nodes": NodeRow, "services": ServiceRow, "checks": CheckRow, "entries": dict}
"""What the rows of a table hold."""


class Served(CatalogError):
    """Another catalog serves this directory."""


def open_catalog(directory: Path) -> sqlite3.Connection:
    """A connection to the catalog in `directory`.

    Raises:
        CatalogError: there is none, not even an empty one; or it is not ours.
    """
    connection = open_database(directory / DATABASE)
    if connection.execute("SELECT 1 FROM state").fetchone() is not None:
        return connection
    connection.close()
    raise CatalogError(f"{directory}: there is no catalog in it yet; start it with: nodeagent catalog --data {directory}")


def lock_data(directory: Path) -> int:
    """A descriptor that keeps other servers out for as long as it is open. Makes the directory.

    Raises:
        Served: another server has it.
        CatalogError: it cannot be made, or others could change it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(directory)
        held = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogError(f"{directory}: cannot hold a catalog: {error}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(held, 20, 0).decode(errors="replace").strip()
        os.close(held)
        raise Served(f"{directory}: another catalog (pid {pid}) serves it already; stop that one first") from None
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(held)
        raise CatalogError(f"{directory}: cannot hold a catalog: {error}") from error
    return held


def check_directory(directory: Path) -> None:
    """Nothing, when nobody else can put other files in the place of the catalog's: it holds the CA's key, and root opens it.

    Raises:
        CatalogError: names the directory that somebody else can change, and the cure.
        OSError: there is none.
    """
    real = directory.resolve(strict=True)
    for each in (real, *real.parents):
        status = each.stat()
        if status.st_uid != os.geteuid() and (each == real or status.st_uid != 0):
            raise CatalogError(
                f"{each}: belongs to uid {status.st_uid}, who could exchange the catalog in {directory}: run this as that"
                f" user{_runuser(status.st_uid)}, or keep the catalog below directories of root's"
            )
        is_shared = status.st_mode & stat.S_ISVTX and each != real  # as /tmp: only owners rename there
        if status.st_mode & 0o022 and not is_shared:
            raise CatalogError(f"{each}: others may write there and exchange the catalog: run chmod go-w {each}")


def _runuser(uid: int) -> str:
    """The command for that, in brackets; empty for a user without a name."""
    try:
        return f" (runuser -u {pwd.getpwuid(uid).pw_name} -- nodeagent catalog …)"
    except KeyError:
        return ""


def prepare_data(directory: Path, datacenter: str, now: datetime) -> Realm:
    """The realm kept in `directory`, made on the first start with its CA, and the files that people take from there.

    Raises:
        CatalogError: lost, not ours, another datacenter's, or the disk is full or broken.
    """
    before = os.umask(0o077)  # the database holds the CA's key
    try:
        _close_to_others(directory)
        _check_not_lost(directory)
        connection = open_database(directory / DATABASE, create=True)
        try:
            if not check_sound(connection, directory / DATABASE):
                open_log().warning("catalog_not_checked", bytes=(directory / DATABASE).stat().st_size)
            else:
                query(connection, lambda reader: _check_rows(reader, directory / DATABASE))
            realm, _ = commit(connection, lambda change: _prepare(change, directory, datacenter, now))
            root = query(connection, read_listener_root)
        finally:
            connection.close()
        if not _says(directory / TLS_CA, root.cert_pem):  # a full disk keeps nobody from reading what is there
            write_file(directory / TLS_CA, root.cert_pem, 0o644)
    except (Refusal, OSError) as error:
        raise CatalogError(f"{directory}: the catalog cannot start: {error}") from error
    finally:
        os.umask(before)
    return realm


def write_file(path: Path, text: str, mode: int) -> None:
    """Writes a file that is there whole or not at all, also after a power cut.

    Raises:
        OSError: the disk is full or broken; what was there before still is.
    """
    replace_file(path, text.encode(), mode)


def _says(path: Path, text: str) -> bool:
    """Whether a file holds that text already; one that is a link, or that others may not read, is made anew."""
    try:
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_mode & 0o777 == 0o644 and path.read_bytes() == text.encode()
    except OSError:
        return False


def _check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Nothing, where every row can be read: SQLite looks at its own pages, and not at what we keep in them.

    Raises:
        CatalogError: one is damaged; with the cure.
    """
    for table, shape in _ROWS.items():
        decoder: msgspec.json.Decoder[object] = msgspec.json.Decoder(shape)
        for (body,) in connection.execute(f"SELECT body FROM {table}"):  # noqa: S608 - our own words
            try:
                decoder.decode(body)
            except msgspec.MsgspecError as error:
                raise CatalogError(f"{path}: the catalog's database is damaged (a row of {table}: {error}){CURE}") from error


def _check_not_lost(directory: Path) -> None:
    """Nothing, unless a catalog's files are there without what it held: another CA in its place would cut off every host.

    What a killed first start leaves is none: its token is there before anything is in the database, and no pin yet.

    Raises:
        CatalogError: with the cure.
    """
    left = [name for name in (MANAGEMENT_TOKEN, TLS_CA) if os.path.lexists(directory / name)]
    database = directory / DATABASE
    if not left or (_has_bytes(database) and (TLS_CA not in left or _is_begun(database))):
        return
    raise CatalogError(
        f"{database}: there is no catalog in it, but {' and '.join(left)} beside it: what it held is lost, and a start would make"
        f" another CA. Bring it back: nodeagent catalog --data {directory} snapshot restore FILE --yes; or, to begin anew, move"
        f" {' and '.join(left)} away: then each host needs a new token and the new {TLS_CA}"
    )


def _has_bytes(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _is_begun(database: Path) -> bool:
    """Whether a database holds a catalog; one that cannot be read is said to, and opening it tells what it is."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        return "state" in tables and connection.execute("SELECT 1 FROM state").fetchone() is not None
    return True


def _close_to_others(directory: Path) -> None:
    """A database that was copied back from a backup may be readable by all."""
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        try:
            descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _prepare(change: Change, directory: Path, datacenter: str, now: datetime) -> Realm:
    is_new = change.connection.execute("SELECT 1 FROM state").fetchone() is None
    realm = found_realm(change, datacenter, now)
    if is_new:
        # The file comes before the commit: a crash between leaves a token that nobody knows, and the next start makes
        # another. Later starts make none, so that an operator may move the file off the machine.
        made = create_token(change, "management", now=now.timestamp(), description="made with the catalog")
        write_file(directory / MANAGEMENT_TOKEN, made.secret + "\n", 0o600)
    return realm
