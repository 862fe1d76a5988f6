"""A catalog as one file: whole, of one moment, its owner's alone, and refused when it is not what was saved."""

import errno
import io
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nodeagent.embedded import archive
from nodeagent.embedded.archive import COUNTED, counts_of, pour, read_about, save, sweep, unpack
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.datadir import DATABASE, prepare_data
from nodeagent.embedded.values import put_value, read_value, read_values
from nodeagent.errors import CatalogError
from tests.unit.nodeagent.embedded.desk import NOW


@pytest.fixture
def directory(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    prepare_data(data, "dc1", NOW)
    return data


@pytest.fixture
def connection(directory):
    with closing(open_database(directory / DATABASE)) as made:
        yield made


@contextmanager
def unpacked(path, directory):
    with unpack(path, directory) as (raw, about), closing(open_database(raw)) as made:
        yield made, about


def test_a_snapshot_is_what_was_there(directory, connection, tmp_path):
    commit(connection, lambda change: put_value(change, "a", b"1", 0))
    about = save(connection, directory, tmp_path / "one", 5.0)
    commit(connection, lambda change: put_value(change, "a", b"2", 0))
    assert (about.index, about.datacenter, about.taken_at, about.rows["kv"]) == (3, "dc1", 5.0, 1)
    assert set(about.rows) == set(COUNTED)
    assert read_about(tmp_path / "one") == about
    with unpacked(tmp_path / "one", directory) as (there, same):
        assert same == about
        assert read_value(there, "a").value == b"1"
        assert counts_of(there) == about.rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "one"]
    assert not list(directory.glob("restored*"))


def test_it_is_its_owners_alone(directory, connection, tmp_path):
    before = os.umask(0)
    try:
        save(connection, directory, tmp_path / "one", 5.0)
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_it_is_of_one_moment_while_somebody_writes(directory, connection, tmp_path):
    """Each change writes two keys; no snapshot has one of them without the other, or an index that is not theirs."""
    done = threading.Event()

    def write():
        number = 0
        with closing(open_database(directory / DATABASE)) as own:
            while not done.is_set():
                number += 1
                text = str(number).encode()
                commit(own, lambda change, text=text: (put_value(change, "a", text, 0), put_value(change, "b", text, 0)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(20):
            about = save(connection, directory, tmp_path / str(number), 5.0)
            with unpacked(tmp_path / str(number), directory) as (there, _):
                rows = read_values(there, "")
                assert len({row.value for row in rows}) <= 1
                assert {row.modify_index for row in rows} <= {about.index}
    finally:
        done.set()
        writer.join()


def test_what_is_in_the_way_is_replaced_only_by_a_whole_one(directory, connection, tmp_path):
    target = tmp_path / "gone" / "one"
    with pytest.raises(CatalogError, match="cannot be written"):
        save(connection, directory, target, 5.0)
    target = tmp_path / "one"
    for leftover in (directory / "saved.db", directory / "saved.db-journal", tmp_path / "one.new"):
        leftover.write_text("of a run that was killed")
    target.write_text("old")
    save(connection, directory, target, 5.0, replace=True)
    assert read_about(target).taken_at == 5.0
    assert not [*tmp_path.glob("one.*"), *directory.glob("saved*")]


def test_a_file_that_came_meanwhile_is_not_replaced(directory, connection, tmp_path):
    """The command has looked before, and the copy takes a while."""
    (tmp_path / "one").write_text("precious")
    with pytest.raises(CatalogError, match="is there already"):
        save(connection, directory, tmp_path / "one", 5.0)
    assert (tmp_path / "one").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["one"]


def test_where_a_file_has_one_name_only_it_is_renamed(directory, connection, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    save(connection, directory, tmp_path / "one", 5.0)
    assert read_about(tmp_path / "one").taken_at == 5.0
    with pytest.raises(CatalogError, match="no links here"):
        save(connection, directory, tmp_path / "one", 5.0)


def planted(other):
    """What somebody lays beside a database, to be played back into it when it is opened: the journal of another one."""
    with closing(sqlite3.connect(other, isolation_level=None)) as made:
        for sql in ("PRAGMA journal_mode = PERSIST", "CREATE TABLE state (x)", "PRAGMA cache_size = 1", "BEGIN", "DROP TABLE state"):
            made.execute(sql).fetchall()
        made.execute("CREATE TABLE evil AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 999) SELECT i FROM n")
        return other.with_name("other.db-journal").read_bytes()


def test_a_journal_that_somebody_lays_beside_the_copy_is_not_played_back(directory, connection, tmp_path, monkeypatch):
    """Nobody else can lay one there, as the copy is made in the catalog's own directory; and it is not looked for."""
    journal, real, where = planted(tmp_path / "other.db"), archive._about, []

    def lay(raw, now):
        where.append(raw.parent)
        raw.with_name(f"{raw.name}-journal").write_bytes(journal)
        return real(raw, now)

    monkeypatch.setattr(archive, "_about", lay)
    about = save(connection, directory, tmp_path / "one", 5.0)
    assert where == [directory]
    with unpacked(tmp_path / "one", directory) as (there, same):
        assert same == about
        assert counts_of(there) == about.rows == counts_of(connection)


def test_a_link_in_the_way_leads_nowhere(directory, connection, tmp_path):
    (tmp_path / "elsewhere").write_text("")
    for name in ("one", "one.new", "data/saved.db"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CatalogError, match="is there already"):
        save(connection, directory, tmp_path / "one", 5.0)
    save(connection, directory, tmp_path / "one", 5.0, replace=True)
    assert (tmp_path / "elsewhere").read_text() == ""
    assert not (tmp_path / "one").is_symlink()


def damaged(path, change):
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: b"", "is not a snapshot"),
        (lambda data: b"SQLite format 3\0" + data, "is not a snapshot"),
        (lambda data: data.replace(b"snapshot 1\n", b"snapshot 2\n", 1), "of a newer form: take the nodeagent that made it"),
        (lambda data: data.replace(b"snapshot 1\n", b"snapshot 12\n", 1), "of a newer form"),
        (lambda data: data.replace(b"snapshot 1\n", b"snapshot of\n", 1), "is not a snapshot"),
        (lambda data: data[:40], "first lines are damaged"),
        (lambda data: data.replace(b'"index"', b'"indes"', 1), "first lines are damaged"),
        (lambda data: data.replace(b'"index":', b'"index":-', 1), "first lines are damaged"),
        (lambda data: data.replace(b'"taken_at":5.0', b'"taken_at":9e99', 1), "first lines are damaged"),
        (lambda data: data.replace(b'"datacenter":"dc1"', b'"datacenter":"\\u001b[2J"', 1), "first lines are damaged"),
        (lambda data: data.replace(b'"kv"', b'"\\u001b"', 1), "first lines are damaged"),
        (lambda data: data.replace(b'"kv":0', b'"kv":"0"', 1), "first lines are damaged"),
        (lambda data: data[:-1], "was cut off"),
        (lambda data: data + b"x", "was joined to something"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "are not those that were saved"),
    ],
)
def test_what_is_not_what_was_saved_is_refused(directory, connection, tmp_path, change, sentence):
    save(connection, directory, tmp_path / "one", 5.0)
    with pytest.raises(CatalogError, match=sentence), unpack(damaged(tmp_path / "one", change), directory):
        pass
    with pytest.raises(CatalogError, match=sentence):
        read_about(tmp_path / "one")
    assert not list(directory.glob("restored*"))


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("PRAGMA user_version = 99", "of version 99"),
        ("DELETE FROM state", "no catalog in it"),
        ("INSERT INTO maintenance VALUES ('nobody', '')", "row without its host in maintenance"),
    ],
)
def test_a_database_that_could_not_be_used_is_refused(directory, connection, tmp_path, sql, sentence):
    """Whoever changed it also made the digest right."""
    connection.execute("PRAGMA foreign_keys = OFF")
    if sql.startswith("DELETE"):
        raw = tmp_path / "raw.db"
        connection.execute("VACUUM INTO ?", (str(raw),))
        about = save(connection, directory, tmp_path / "one", 5.0)
        _forge(tmp_path / "one", raw, sql, about)
    else:
        connection.execute(sql)
        save(connection, directory, tmp_path / "one", 5.0)
    with pytest.raises(CatalogError, match=sentence), unpack(tmp_path / "one", directory):
        pass


def _forge(path, raw, sql, about):
    import hashlib
    import sqlite3

    import msgspec

    with closing(sqlite3.connect(raw, isolation_level=None)) as made:
        made.execute(sql)
    data = raw.read_bytes()
    said = msgspec.structs.replace(about, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    head = path.read_bytes().split(b"\n", 1)[0]
    path.write_bytes(head + b"\n" + msgspec.json.encode(said) + b"\n" + data)


def test_what_a_damaged_one_says_is_not_told_to_the_terminal(directory, connection, tmp_path):
    save(connection, directory, tmp_path / "one", 5.0)
    with pytest.raises(CatalogError, match=r"unknown field `.\[2J") as refused:
        read_about(damaged(tmp_path / "one", lambda data: data.replace(b'"index"', b'"\\u001b[2J' + b"x" * 1000 + b'"', 1)))
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_one_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CatalogError, match="No such file"):
        read_about(tmp_path / "nothing")


def test_two_at_once_do_not_take_each_others_files(directory, connection, tmp_path):
    save(connection, directory, tmp_path / "one", 5.0)
    with unpack(tmp_path / "one", directory) as (raw, _):
        for again in (lambda: save(connection, directory, tmp_path / "two", 5.0), lambda: unpack(tmp_path / "one", directory).__enter__()):
            with pytest.raises(CatalogError, match="another snapshot is saved or restored there now"):
                again()
        assert raw.exists()
    save(connection, directory, tmp_path / "two", 5.0)


def test_a_stream_without_an_end_fills_no_disk(directory, connection, tmp_path, monkeypatch):
    class Endless(io.BytesIO):
        """The snapshot and then more and more; whoever reads on for long is stopped."""

        left = 8

        def read(self, size=-1):
            if part := super().read(size):
                return part
            self.left -= 1
            assert self.left, "read on and on"
            return b"x" * min(size, 4096) if size > 0 else b"x"

    save(connection, directory, tmp_path / "one", 5.0)
    for take in (lambda: read_about(archive.STDIN), lambda: unpack(archive.STDIN, directory).__enter__()):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Endless((tmp_path / "one").read_bytes())))
        with pytest.raises(CatalogError, match=r"more than its [0-9]+ bytes: it was joined to something"):
            take()
    assert not list(directory.glob("restored*"))


def test_a_catalog_that_is_damaged_is_not_mended_by_room(directory, connection, tmp_path):
    commit(connection, lambda change: [put_value(change, f"k{n}", b"x" * 3000, 0) for n in range(50)])
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (directory / DATABASE).open("r+b") as file:
        file.seek(30 * 4096)
        file.write(b"\xff" * 4096 * 20)
    with closing(open_database(directory / DATABASE)) as damaged, pytest.raises(CatalogError, match=r"malformed; move its directory away, .* restore FILE"):
        save(damaged, directory, tmp_path / "one", 5.0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_directory_without_room_is_named_and_not_the_file(directory, connection, tmp_path):
    """The copy is made there, whichever disk the file is to be on."""
    class Full:
        def execute(self, *_):
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(CatalogError, match=rf"^{directory}: the catalog cannot be copied there, .*disk is full; make room on that disk"):
        save(Full(), directory, tmp_path / "one", 5.0)


def test_a_directory_without_room_for_what_is_restored_is_named(directory, connection, tmp_path, monkeypatch):
    """And the snapshot is not said to be unreadable."""
    save(connection, directory, tmp_path / "one", 5.0)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive, "_parts", full)
    with pytest.raises(CatalogError, match=rf"one: the snapshot cannot be unpacked in {directory}: .*No space left"), unpack(tmp_path / "one", directory):
        pass


def test_a_stream_that_ends_is_said(directory, connection):
    class Closed(io.BytesIO):
        def write(self, _data):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(CatalogError, match=r"cannot be written to standard output: .*Broken pipe"):
        pour(connection, directory, Closed(), 5.0)
    assert not list(directory.glob("saved*"))


def test_what_a_killed_run_left_is_swept_away_unless_one_works_there(directory, connection, tmp_path):
    """It holds the CA's keys."""
    for name in ("saved.db", "restored.db", "restored.db-wal"):
        (directory / name).write_text("keys")
    sweep(directory)
    assert [*directory.glob("saved*"), *directory.glob("restored*")] == []
    save(connection, directory, tmp_path / "one", 5.0)
    with unpack(tmp_path / "one", directory) as (raw, _):
        sweep(directory)
        assert raw.exists()
    sweep(tmp_path / "nothing")
