"""Tokens: shown once, stored hashed, gone at once."""

import pytest

from nodeagent import limits
from nodeagent.embedded.access import Caller
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import TooLarge
from nodeagent.embedded.tokens import create_token, delete_token, find_caller, fix_addresses, read_token, read_tokens


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    yield made
    made.close()


def create(connection, **said):
    kind = "node" if "node" in said else "management"
    return commit(connection, lambda change: create_token(change, kind, now=5.0, **said))[0]


def test_a_secret_finds_its_caller(connection):
    made = create(connection, node="host1", services=("web", "db"), description="x")
    assert find_caller(connection, made.secret) == Caller(made.token.caller.accessor, "node", "host1", ("web", "db"))
    assert find_caller(connection, made.secret[:-1]) is None
    assert find_caller(connection, "") is None
    assert find_caller(connection, "\ud800") is None


def test_a_token_knows_its_addresses(connection):
    named = create(connection, node="host1", addresses=("10.0.0.1", "fd00::/64"))
    assert find_caller(connection, named.secret).addresses == ("10.0.0.1", "fd00::/64")
    first = create(connection, node="host1")
    assert find_caller(connection, first.secret).is_unbound
    commit(connection, lambda change: fix_addresses(change, first.token.caller.accessor, ("10.0.0.1",)))
    assert find_caller(connection, first.secret).fixed == ("10.0.0.1",)
    assert not find_caller(connection, first.secret).is_unbound
    assert find_caller(connection, named.secret).fixed == ()


def test_secrets_are_long_and_never_the_same(connection):
    secrets = {create(connection).secret for _ in range(4)}
    assert len(secrets) == 4
    assert {len(secret) for secret in secrets} == {64}


def test_no_secret_is_stored_or_shown(connection, tmp_path):
    made = create(connection, node="host1", services=("web",))
    assert made.secret not in repr(made)
    assert made.secret not in repr(read_tokens(connection))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    for file in tmp_path.iterdir():
        assert made.secret.encode() not in file.read_bytes()


def test_a_revoked_token_is_nobodys(connection):
    made = create(connection)
    accessor = made.token.caller.accessor
    assert commit(connection, lambda change: delete_token(change, accessor, 0.0))[0] is True
    assert commit(connection, lambda change: delete_token(change, accessor, 0.0))[0] is False
    assert find_caller(connection, made.secret) is None
    assert read_token(connection, accessor) is None


def test_tokens_are_listed_oldest_first(connection):
    first, second = create(connection, description="first"), create(connection, node="host1")
    assert read_tokens(connection) == [first.token, second.token]
    assert read_token(connection, first.token.caller.accessor) == first.token


def test_there_is_a_limit(connection, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_ROWS", 1)
    create(connection)
    with pytest.raises(TooLarge, match="tokens"):
        create(connection)
