"""What the CA remembers of the certificates that it signed."""

import pytest

from certs.serial import tag_of
from nodeagent import limits
from nodeagent.embedded.certified import (
    Certified,
    Held,
    correct,
    misremembered,
    note_certified,
    note_revoked,
    read_holders,
    read_nodes,
    read_revoked,
    read_speakers,
)  # fmt: skip
from nodeagent.embedded.database import commit, open_database
from nodeagent.embedded.refusal import TooLarge
from nodeagent.embedded.tokens import create_token, delete_token

NOW = 1000.0


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    made.execute("INSERT INTO state VALUES (1, 'x.consul', 'dc1', 1)")
    yield made
    made.close()


def token(connection, node="host1"):
    kind = "node" if node else "management"
    return commit(connection, lambda change: create_token(change, kind, now=NOW, node=node))[0].token.caller.accessor


def note(connection, *rows, now=NOW):
    for row in rows:
        commit(connection, lambda change, made=row: note_certified(change, Certified(*made), now))


def held(connection, root, now=NOW):
    return [tuple(each) for each in read_holders(connection, root, now)]


def test_the_newest_certificate_of_each_service_counts(connection):
    """A renewal under another root frees the first; what has ended is held by nobody."""
    one, two, root = token(connection), token(connection, "host2"), token(connection, "")
    note(connection, (one, "web", "r1", 2000.0), (one, "shop", "r1", 3000.0), (two, "db", "r1", 1500.0), (root, "x", "r1", 1400.0))
    assert held(connection, "r1") == [
        ("(management)", ("x",), 1400.0), ("host1", ("shop", "web"), 3000.0), ("host2", ("db",), 1500.0),
    ]  # fmt: skip
    assert read_speakers(connection, 1600.0) == {"host1"}
    assert read_nodes(connection, [two, root, "unknown"]) == {"host2"}
    note(connection, (one, "web", "r2", 4000.0))
    assert held(connection, "r1", 1600.0) == [("host1", ("shop",), 3000.0)]
    assert held(connection, "r2") == [("host1", ("web",), 4000.0)]


def test_a_revoked_token_is_told_until_long_after_its_last_certificate(connection):
    """Also one whose renewals were shorter than what it had before."""
    one = token(connection)
    note(connection, (one, "web", "r1", 9000.0), (one, "web", "r1", 2000.0))
    assert commit(connection, lambda change: delete_token(change, one, NOW))[0]
    assert [tuple(each) for each in read_revoked(connection)] == [
        (tag_of(one), one, "host1", 9000.0 + limits.REVOKED_KEPT_S)
    ]
    assert held(connection, "r1") == []
    note(connection, (one, "web", "r1", 9000.0))
    assert held(connection, "r1") == [], "a certificate that was being signed meanwhile is no news of a token that is gone"


def test_who_was_told_long_enough_is_forgotten(connection):
    old, new = token(connection), token(connection, "host2")
    commit(connection, lambda change: delete_token(change, old, NOW))
    commit(connection, lambda change: delete_token(change, new, NOW + limits.REVOKED_KEPT_S + 1))
    assert [each.accessor for each in read_revoked(connection)] == [new]


def test_a_token_has_room_for_so_many_services_and_the_table_for_so_many_rows(connection, monkeypatch):
    """What has ended makes room; what has not is not pushed out."""
    monkeypatch.setattr(limits, "CERTIFIED_PER_TOKEN", 2)
    one, two = token(connection), token(connection, "host2")
    note(connection, (one, "a", "r1", 2000.0), (one, "b", "r1", 3000.0))
    with pytest.raises(TooLarge, match="2 services"):
        note(connection, (one, "c", "r1", 2000.0))
    note(connection, (one, "b", "r1", 3500.0))
    note(connection, (one, "c", "r1", 4000.0), now=2500.0)
    monkeypatch.setattr(limits, "CATALOG_ROWS", 2)
    with pytest.raises(TooLarge, match="holds 2 certified"):
        note(connection, (two, "d", "r1", 4000.0), now=2500.0)
    note(connection, (two, "d", "r1", 5000.0), now=3700.0)
    assert [each[0] for each in held(connection, "r1", 3700.0)] == ["host1", "host2"]


def test_the_list_of_the_revoked_is_bounded(connection, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_ROWS", 1)
    commit(connection, lambda change: note_revoked(change, "one", "host1", NOW))
    with pytest.raises(TooLarge):
        commit(connection, lambda change: note_revoked(change, "two", "host1", NOW))


def say(connection, node, *rows):
    """The host says that it holds these: accessor, service, root, end."""
    said = [Held(service, f"{tag_of(accessor)}:00", root, end) for accessor, service, root, end in rows]
    commit(connection, lambda change: correct(change, node, said))
    assert misremembered(connection, node, said) == []


def test_what_a_host_says_it_holds_is_what_it_holds(connection):
    """Of each of its tokens, and of no other host's; what it lost and then has after all is remembered again."""
    old, new, other = token(connection), token(connection), token(connection, "host2")
    note(connection, *((each, "web", "r1", 3000.0) for each in (old, new, other)), (new, "dead", "r1", 5000.0))
    say(connection, "host1", (new, "web", "r2", 4000.0), (new, "never", "r1", 9000.0))
    assert held(connection, "r1") == [("host2", ("web",), 3000.0)]
    assert held(connection, "r2") == [("host1", ("web",), 3000.0)], "no longer than what was signed"
    say(connection, "host1", (new, "dead", "r1", 5000.0))
    assert held(connection, "r1") == [("host1", ("dead",), 5000.0), ("host2", ("web",), 3000.0)]
    say(connection, "host1")
    assert read_speakers(connection, NOW) == {"host2"}


def test_what_a_host_lost_counts_for_its_revocation(connection):
    """Somebody may have copied it."""
    one = token(connection)
    note(connection, (one, "web", "r1", 9000.0))
    say(connection, "host1")
    assert commit(connection, lambda change: delete_token(change, one, NOW))[0]
    assert read_revoked(connection)[0].until == 9000.0 + limits.REVOKED_KEPT_S
