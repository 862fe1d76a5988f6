"""`nodeagent catalog snapshot`: what it writes, shows and puts back, and what it says of the secrets in it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from nodeagent.cli.main import main
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.datadir import DATABASE, lock_data, prepare_data
from nodeagent.embedded.values import put_value, read_value
from tests.support.stranger import UID, open_to_all, stranger


@pytest.fixture
def data(tmp_path):
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    prepare_data(made, "dc1", datetime.now(UTC))
    put(made, b"1")
    return made


def run(data, *argv):
    return CliRunner().invoke(main, ["catalog", "--data", str(data), "snapshot", *map(str, argv)])


def put(data, value, key="a"):
    with closing(open_database(data / DATABASE)) as connection:
        commit(connection, lambda change: put_value(change, key, value, 0))


def value(data):
    with closing(open_database(data / DATABASE)) as connection:
        return read_value(connection, "a").value


def test_save_says_what_is_in_the_file_and_how_secret_it_is(data, tmp_path):
    done = run(data, "save", tmp_path / "one")
    assert (done.exit_code, (tmp_path / "one").stat().st_mode & 0o777) == (0, 0o600)
    assert done.stdout.startswith(f"saved: {tmp_path / 'one'}: catalog of ")
    assert "It holds the CA's keys" in done.stderr


@pytest.mark.parametrize(("argv", "closed", "sentence"), [(("save", "-"), ">&-", "- writes the snapshot to standard output"), (("inspect", "-"), "<&-", "-: standard input is closed")])
def test_a_stream_that_is_closed_is_no_traceback(data, argv, closed, sentence):
    command = f"{sys.executable} -m nodeagent catalog --data {data} snapshot {' '.join(argv)} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_there_is_replaced_by_force_alone(data, tmp_path):
    (tmp_path / "one").write_text("precious")
    done = run(data, "save", tmp_path / "one")
    assert done.exit_code == 1
    assert "--force replaces it" in done.output
    assert (tmp_path / "one").read_text() == "precious"
    assert run(data, "save", "--force", tmp_path / "one").exit_code == 0
    assert run(data, "inspect", tmp_path / "one").exit_code == 0


def test_inspect_tells_what_there_is(data, tmp_path):
    run(data, "save", tmp_path / "one")
    shown = run(data, "inspect", tmp_path / "one").stdout
    assert "kv        1\n" in shown
    assert "in dc1, taken 20" in shown
    said = json.loads(run(data, "inspect", "-o", "json", tmp_path / "one").stdout)
    assert said["snapshot"]["rows"]["tokens"] == 1
    assert "PRIVATE KEY" not in json.dumps(said)


def test_restore_shows_first_and_does_it_when_told(data, tmp_path):
    run(data, "save", tmp_path / "one")
    put(data, b"2")
    put(data, b"", "nodeagent/audit/service-defaults/web")
    shown = run(data, "restore", tmp_path / "one")
    assert (shown.exit_code, value(data)) == (0, b"2")
    assert "kv        2    2\n" in shown.stdout
    assert "nothing was changed" in shown.stderr
    done = run(data, "restore", tmp_path / "one", "--yes")
    assert (done.exit_code, value(data)) == (0, b"1")
    assert "tokens, CA, revocations and the trails of policy are those of before" in done.stderr


def test_restore_works_beside_a_server_and_keeps_one_out_without(data, tmp_path):
    run(data, "save", tmp_path / "one")
    put(data, b"2")
    held = lock_data(data)
    try:
        assert run(data, "restore", tmp_path / "one", "--yes").exit_code == 0
    finally:
        os.close(held)
    assert value(data) == b"1"
    os.close(lock_data(data))


def test_an_empty_directory_gets_everything_readable_by_its_owner_alone(data, tmp_path):
    run(data, "save", tmp_path / "one")
    into = tmp_path / "new" / "data"
    done = run(into, "restore", tmp_path / "one", "--yes")
    assert (done.exit_code, value(into)) == (0, b"1")
    assert "start it with --datacenter dc1" in done.stderr
    assert "what was revoked since is to be revoked again" in done.stderr
    assert f"token create --management --out {into}/management.token" in done.stderr
    assert [path.name for path in into.iterdir() if path.stat().st_mode & 0o077] == []
    assert prepare_data(into, "dc1", datetime.now(UTC)) == prepare_data(data, "dc1", datetime.now(UTC))


def test_inspect_finds_what_a_restore_would_refuse(data, tmp_path):
    """A backup that is looked at only when it is needed is none."""
    run(data, "save", tmp_path / "one")
    whole = (tmp_path / "one").read_bytes()
    (tmp_path / "one").write_bytes(whole[:-1])
    assert (run(data, "inspect", tmp_path / "one").exit_code, "was cut off" in run(data, "inspect", tmp_path / "one").stderr) == (1, True)
    (tmp_path / "one").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "are not those that were saved" in run(data, "inspect", tmp_path / "one", "-o", "json").stderr


def piped(data, *argv, stdin=b""):
    """As a shell runs it, with pipes for input and output."""
    command = [sys.executable, "-m", "nodeagent", "catalog", "--data", str(data), "snapshot", *map(str, argv)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_a_backup_can_go_through_pipes(data, tmp_path):
    """To another machine and back, without a file here."""
    saved = piped(data, "save", "-")
    assert (saved.returncode, saved.stderr.startswith(b"saved: -: catalog of "), list(data.glob("saved*"))) == (0, True, [])
    assert b"kv        1\n" in piped(data, "inspect", "-", stdin=saved.stdout).stdout
    assert piped(data, "inspect", "-", stdin=saved.stdout[:-1]).returncode == 1
    done = piped(tmp_path / "new", "restore", "-", "--yes", stdin=saved.stdout)
    assert (done.returncode, value(tmp_path / "new")) == (0, b"1")
    assert run(data, "save", "-", "-o", "json").exit_code == 2


def test_what_is_no_file_is_neither_replaced_nor_waited_for(data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for force in ((), ("--force",)):
        done = run(data, "save", tmp_path / "pipe", *force)
        assert (done.exit_code, "is no file that could be replaced; - writes to standard output" in done.stderr) == (1, True)
    assert (tmp_path / "pipe").is_fifo()
    assert "is not a snapshot" in run(data, "inspect", tmp_path / "pipe").stderr


def test_programs_are_answered_in_json(data, tmp_path):
    saved = json.loads(run(data, "save", tmp_path / "one", "-o", "json").stdout)
    assert (saved["apiVersion"], saved["file"], saved["snapshot"]["rows"]["kv"]) == ("nodeagent/v1", str(tmp_path / "one"), 1)
    put(data, b"2")
    put(data, b"2", "b")
    shown = json.loads(run(data, "restore", tmp_path / "one", "-o", "json").stdout)
    assert (shown["restored"], shown["trust"], shown["before"]["kv"], shown["after"]["kv"]) == (False, False, 2, 1)
    done = json.loads(run(data, "restore", tmp_path / "one", "--yes", "-o", "json").stdout)
    assert (done["restored"], done["after"]["kv"], value(data)) == (True, 1, b"1")


@pytest.mark.parametrize("verb", ["inspect", "restore"])
def test_what_is_no_snapshot_is_refused_in_a_sentence(data, tmp_path, verb):
    (tmp_path / "one").write_text("rubbish")
    done = run(data, verb, tmp_path / "one")
    assert done.exit_code == 1
    assert "is not a snapshot of a catalog" in done.output
    assert "Traceback" not in done.output


def test_a_catalog_that_is_not_there_is_not_made_by_saving(tmp_path):
    done = run(tmp_path / "nothing", "save", tmp_path / "one")
    assert done.exit_code != 0
    assert not (tmp_path / "nothing").exists()


def test_looking_at_what_a_restore_would_do_makes_nothing(data, tmp_path):
    run(data, "save", tmp_path / "one")
    into = tmp_path / "new" / "data"
    shown = run(into, "restore", tmp_path / "one")
    assert (shown.exit_code, into.parent.exists()) == (0, False)
    assert "kv        0    1\n" in shown.stdout
    into.mkdir(mode=0o700, parents=True)
    assert run(into, "restore", tmp_path / "one").exit_code == 0
    assert list(into.iterdir()) == []


def test_where_a_restore_failed_nothing_can_be_saved_or_made(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    open_database(data / DATABASE, create=True).close()
    for done in (run(data, "save", tmp_path / "one"), CliRunner().invoke(main, ["catalog", "--data", str(data), "token", "create", "--management"])):
        assert done.exit_code == 1
        assert "there is no catalog in it yet; start it with" in done.output
        assert "Traceback" not in done.output
    assert not (tmp_path / "one").exists()


def test_what_keeps_a_restore_from_locking_is_not_taken_for_a_server(data, tmp_path):
    run(data, "save", tmp_path / "one")
    put(data, b"2")
    (data / "catalog.lock").symlink_to(tmp_path / "elsewhere")
    done = run(data, "restore", tmp_path / "one", "--yes")
    assert (done.exit_code, value(data)) == (1, b"2")
    assert "cannot hold a catalog" in done.output


def test_the_directory_may_stand_behind_the_command_as_with_token(data, tmp_path):
    done = CliRunner().invoke(main, ["catalog", "snapshot", "save", str(tmp_path / "one"), "--data", str(data)])
    assert (done.exit_code, (tmp_path / "one").exists()) == (0, True)
    shown = CliRunner().invoke(main, ["catalog", "snapshot", "restore", "--data", str(data), str(tmp_path / "one")])
    assert (shown.exit_code, f"--data {data} " in shown.stderr) == (0, True)


def test_where_no_catalog_is_that_is_said_with_a_cure(tmp_path):
    done = CliRunner().invoke(main, ["catalog", "--data", str(tmp_path / "none"), "snapshot", "save", str(tmp_path / "one")])
    assert (done.exit_code, "there is no catalog here; start one with: nodeagent catalog --data" in done.stderr) == (1, True)


def test_a_place_that_is_closed_to_this_user_is_a_sentence(data):
    """`runuser` as the catalog's user, and a file of root's: for snapshots and for secrets."""
    with open_to_all() as place:
        own, closed = place / "own", place / "closed"
        closed.mkdir(mode=0o700)
        shutil.copytree(data, own)
        for each in (own, *own.iterdir()):
            os.chown(each, UID, UID)
        for argv in (("snapshot", "save"), ("token", "create", "--read", "--out")):
            done = stranger("catalog", "--data", str(own), *argv, f"{closed}/one")
            assert (done.returncode, done.stderr) == (1, f"Error: {closed}/one: Permission denied; name a place where uid {UID} may write\n")
            assert stranger("catalog", "--data", str(own), *argv, f"{own}/{argv[0]}").returncode == 0
