"""The data directory: one server, secrets for the owner alone, files whole or not at all."""

import errno
import os
import pwd
from contextlib import closing
from datetime import UTC, datetime

import pytest

from nodeagent import limits
from nodeagent.embedded.database import open_database, query
from nodeagent.embedded.datadir import (
    DATABASE,
    MANAGEMENT_TOKEN,
    TLS_CA,
    check_directory,
    lock_data,
    prepare_data,
    write_file,
)  # fmt: skip
from nodeagent.embedded.tokens import find_caller, read_tokens
from nodeagent.errors import CatalogError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_first_start_makes_what_people_take_from_there(tmp_path):
    realm = prepare_data(tmp_path, "dc1", NOW)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in (DATABASE, MANAGEMENT_TOKEN, TLS_CA)}
    assert modes == {DATABASE: 0o600, MANAGEMENT_TOKEN: 0o600, TLS_CA: 0o644}
    connection = open_database(tmp_path / DATABASE)
    assert find_caller(connection, (tmp_path / MANAGEMENT_TOKEN).read_text().strip()).kind == "management"
    connection.close()
    assert "PRIVATE" not in (tmp_path / TLS_CA).read_text()
    assert realm.datacenter == "dc1"


def test_later_starts_find_it_and_make_no_second_token(tmp_path):
    first = prepare_data(tmp_path, "dc1", NOW)
    (tmp_path / MANAGEMENT_TOKEN).unlink()
    assert prepare_data(tmp_path, "dc1", NOW) == first
    assert not (tmp_path / MANAGEMENT_TOKEN).exists()
    connection = open_database(tmp_path / DATABASE)
    assert len(query(connection, read_tokens)) == 1
    connection.close()


@pytest.mark.parametrize("left", ["nothing", "an empty file", "tables alone"])
def test_a_lost_database_is_not_taken_for_a_first_start(tmp_path, left):
    """Another CA would be made over the files of the old one, and every host cut off."""
    prepare_data(tmp_path, "dc1", NOW)
    for each in tmp_path.glob(f"{DATABASE}*"):
        each.unlink()
    if left == "an empty file":
        (tmp_path / DATABASE).touch()
    elif left == "tables alone":  # a killed restore
        open_database(tmp_path / DATABASE, create=True).close()
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(CatalogError, match=rf"is lost, and .*catalog --data {tmp_path} snapshot restore FILE --yes; or, .*move management.token and tls-ca.pem away"):
        prepare_data(tmp_path, "dc1", NOW)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_database_is_missed_without_its_token_too(tmp_path):
    """Operators take that off the machine."""
    prepare_data(tmp_path, "dc1", NOW)
    (tmp_path / MANAGEMENT_TOKEN).unlink()
    (tmp_path / DATABASE).unlink()
    with pytest.raises(CatalogError, match=r"but tls-ca\.pem beside it"):
        prepare_data(tmp_path, "dc1", NOW)


def test_a_first_start_that_was_killed_is_made_good_by_the_next(tmp_path):
    """Its token may be there already, for a catalog that is not."""
    open_database(tmp_path / DATABASE, create=True).close()
    (tmp_path / MANAGEMENT_TOKEN).write_text("of nobody")
    prepare_data(tmp_path, "dc1", NOW)
    connection = open_database(tmp_path / DATABASE)
    assert find_caller(connection, (tmp_path / MANAGEMENT_TOKEN).read_text().strip()).kind == "management"
    connection.close()


def test_a_database_that_is_none_is_said_to_be(tmp_path):
    prepare_data(tmp_path, "dc1", NOW)
    (tmp_path / DATABASE).write_bytes(b"x" * 8192)
    with pytest.raises(CatalogError, match=r"cannot be opened as a catalog.*snapshot restore FILE --yes"):
        prepare_data(tmp_path, "dc1", NOW)


@pytest.fixture
def damaged(tmp_path):
    """A catalog, some of whose pages are garbage."""
    prepare_data(tmp_path, "dc1", NOW)
    with closing(open_database(tmp_path / DATABASE)) as connection:
        for number in range(200):
            connection.execute("INSERT INTO kv VALUES (?, ?, 0, 1, 1)", (f"k{number}", b"x" * 1000))
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(-3 * 4096, os.SEEK_END)
        file.write(b"garbage!" * 1024)
    return tmp_path


def test_a_damaged_database_is_not_served(damaged):
    """Else it would be found out by and by, one answer after another, and anew after each restart."""
    with pytest.raises(CatalogError, match=r"database is damaged \(.*Page.*; move its directory away, .*snapshot restore FILE --yes"):
        prepare_data(damaged, "dc1", NOW)


@pytest.mark.parametrize(
    ("table", "body", "why"),
    [
        ("nodes", b'{"name":"h1","id":"","address":"10.0.0.1","tagged":{},"meta":{}', "Input data was truncated"),
        ("nodes", b'{"nbme":"h1","id":"","address":"10.0.0.1","tagged":{},"meta":{}}', "missing required field"),
        ("entries", b'{"Kind": "mesh"\xff}', "is malformed"),
        ("entries", b"[]", "Expected `object`"),
    ],
)
def test_a_row_that_cannot_be_read_is_damage_too(tmp_path, table, body, why):
    """SQLite does not look into what we keep: each question for it would fail, and nothing would name the cure."""
    prepare_data(tmp_path, "dc1", NOW)
    with closing(open_database(tmp_path / DATABASE)) as connection:
        names = "'h1'" if table == "nodes" else "'mesh', 'mesh'"
        connection.execute(f"INSERT INTO {table} VALUES ({names}, ?, 1, 1)", (body,))
    with pytest.raises(CatalogError, match=rf"database is damaged \(a row of {table}: .*{why}.*\); move its directory away, .*snapshot restore FILE --yes"):
        prepare_data(tmp_path, "dc1", NOW)


def test_one_that_is_too_large_to_be_looked_through_is_served_and_that_is_said(damaged, monkeypatch, capsys):
    monkeypatch.setattr(limits, "CATALOG_CHECKED_BYTES", 10)
    prepare_data(damaged, "dc1", NOW)
    said = capsys.readouterr()
    assert "catalog_not_checked" in said.out + said.err


def test_another_datacenter_is_refused(tmp_path):
    prepare_data(tmp_path, "dc1", NOW)
    with pytest.raises(CatalogError, match="is of datacenter dc1"):
        prepare_data(tmp_path, "dc2", NOW)


def test_the_umask_is_left_as_it_was(tmp_path):
    before = os.umask(0o022)
    try:
        prepare_data(tmp_path, "dc1", NOW)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_second_server_is_kept_out_and_told_by_whom(tmp_path):
    held = lock_data(tmp_path / "new" / "catalog")
    with pytest.raises(CatalogError, match=rf"another catalog \(pid {os.getpid()}\)"):
        lock_data(tmp_path / "new" / "catalog")
    os.close(held)
    os.close(lock_data(tmp_path / "new" / "catalog"))


def test_a_directory_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="cannot hold a catalog"):
        lock_data(tmp_path / "file" / "x")


def test_a_link_in_the_place_of_the_lock_overwrites_nothing(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "catalog.lock").symlink_to(victim)
    with pytest.raises(CatalogError, match="cannot hold a catalog"):
        lock_data(tmp_path / "data")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_may_write_is_refused_with_the_cure(tmp_path, mode):
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(mode)
    with pytest.raises(CatalogError, match=rf"run chmod go-w {tmp_path}/data"):
        lock_data(tmp_path / "data")


def test_a_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    os.chown(tmp_path / "data", 64_901, 64_901)
    with pytest.raises(CatalogError, match=r"data: belongs to uid 64901.* run this as that user, or keep"):
        check_directory(tmp_path / "data")
    os.chown(tmp_path / "data", 1, 1)
    with pytest.raises(CatalogError, match=rf"run this as that user \(runuser -u {pwd.getpwuid(1).pw_name} -- nodeagent catalog …\), or"):
        check_directory(tmp_path / "data")


def test_a_directory_below_somebody_elses_is_refused(tmp_path):
    """Its owner can put another directory in its place."""
    (tmp_path / "theirs" / "data").mkdir(parents=True, mode=0o700)
    os.chown(tmp_path / "theirs", 64_901, 64_901)
    with pytest.raises(CatalogError, match="theirs: belongs to uid 64901"):
        check_directory(tmp_path / "theirs" / "data")


def test_a_link_to_a_directory_is_judged_by_where_it_leads(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 64_901, 64_901)
    (tmp_path / "data").symlink_to(tmp_path / "theirs")
    with pytest.raises(CatalogError, match="belongs to uid 64901"):
        check_directory(tmp_path / "data")


def test_a_restored_database_is_closed_to_others(tmp_path):
    prepare_data(tmp_path, "dc1", NOW)
    (tmp_path / DATABASE).chmod(0o644)
    prepare_data(tmp_path, "dc1", NOW)
    assert (tmp_path / DATABASE).stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_a_link_is_refused(tmp_path):
    prepare_data(tmp_path, "dc1", NOW)
    (tmp_path / DATABASE).rename(tmp_path / "elsewhere.db")
    (tmp_path / DATABASE).symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(CatalogError, match="cannot start"):
        prepare_data(tmp_path, "dc1", NOW)


def test_a_file_is_replaced_whole_with_its_mode(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, "new", 0o600)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "x", "new", 0o600)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_keeps_no_catalog_from_starting(tmp_path, monkeypatch):
    """It reads, and goes on when there is room again: what it would write first is there already."""
    realm = prepare_data(tmp_path, "dc1", NOW)
    monkeypatch.setattr("nodeagent.embedded.datadir.write_file", full)
    assert realm == prepare_data(tmp_path, "dc1", NOW)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("another's"), lambda path: path.chmod(0o600), lambda path: path.unlink()])
def test_a_pin_that_is_not_as_it_should_be_is_made_anew(tmp_path, spoil):
    prepare_data(tmp_path, "dc1", NOW)
    before = (tmp_path / TLS_CA).read_text()
    spoil(tmp_path / TLS_CA)
    prepare_data(tmp_path, "dc1", NOW)
    assert (before, 0o644) == ((tmp_path / TLS_CA).read_text(), (tmp_path / TLS_CA).stat().st_mode & 0o777)


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_the_next_try_is_not_kept_out(tmp_path, monkeypatch):
    """By the very first thing that is written: whose lock it is."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(CatalogError, match=r"cannot hold a catalog: .*No space left"):
            lock_data(tmp_path)
    os.close(lock_data(tmp_path))
