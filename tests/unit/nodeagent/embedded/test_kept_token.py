"""What is said of the management token at the start is true of it."""

from contextlib import closing

import pytest

from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.datadir import DATABASE, MANAGEMENT_TOKEN, prepare_data
from nodeagent.embedded.kept_token import told_token
from nodeagent.embedded.tokens import create_token
from tests.unit.nodeagent.embedded.desk import NOW


@pytest.fixture
def connection(tmp_path):
    prepare_data(tmp_path, "dc1", NOW)
    with closing(open_database(tmp_path / DATABASE)) as made:
        yield made


def test_the_first_token_is_named(tmp_path, connection, capsys):
    assert told_token(tmp_path, connection) == f"management token {tmp_path / MANAGEMENT_TOKEN}"
    said = capsys.readouterr()
    assert "catalog_token_open" not in said.out + said.err


def test_one_that_is_not_there_is_not_named_but_how_to_make_it(tmp_path, connection):
    """As after a restore on another machine."""
    (tmp_path / MANAGEMENT_TOKEN).unlink()
    make = f"nodeagent catalog --data {tmp_path} token create --management --out {tmp_path / MANAGEMENT_TOKEN}"
    assert told_token(tmp_path, connection) == f"no management token is kept there; another: {make}"


def test_one_of_another_catalog_or_kind_is_said_to_be(tmp_path, connection):
    made, _ = commit(connection, lambda change: create_token(change, "read", now=0.0))
    for secret in ("of nobody", "\xff", made.secret):
        (tmp_path / MANAGEMENT_TOKEN).write_text(secret)
        assert "is no management token of this catalog; another: nodeagent catalog" in told_token(tmp_path, connection)


def test_one_that_cannot_be_read_stops_nothing(tmp_path, connection):
    (tmp_path / MANAGEMENT_TOKEN).unlink()
    (tmp_path / MANAGEMENT_TOKEN).mkdir()
    assert told_token(tmp_path, connection).endswith("management.token cannot be read: Is a directory")


def test_one_that_others_may_read_is_noticed(tmp_path, connection, capsys):
    (tmp_path / MANAGEMENT_TOKEN).chmod(0o644)
    told_token(tmp_path, connection)
    said = capsys.readouterr()
    assert f"chmod 0600 {tmp_path / MANAGEMENT_TOKEN}" in said.out + said.err
