"""Hosts and services in the database, and exactly the watches that a change concerns."""

import pytest

from nodeagent import limits
from nodeagent.embedded.database import commit, index_of, newest_index, open_database
from nodeagent.embedded.refusal import BadRequest, TooLarge
from nodeagent.embedded.registration import NodeRow, ServiceRow
from nodeagent.embedded.registrations import (
    REGISTRATIONS,
    delete_node,
    delete_service,
    node_topic,
    put_node,
    put_service,
    read_instances,
    read_names,
    read_names_of,
    read_node,
    read_nodes,
    read_service,
    read_services_of,
    service_topic,
)  # fmt: skip

HOST1 = NodeRow("host1", "", "10.0.0.1", {"lan_ipv6": "fd::1"})
HOST2 = NodeRow("host2", "", "10.0.0.2")
WEB1 = ServiceRow("host1", "web", "web", 80, tags=("a",))
WEB2 = ServiceRow("host2", "web", "web", 80, tags=("b",))
DB1 = ServiceRow("host1", "db", "db", 5432)


@pytest.fixture
def connection(tmp_path):
    made = open_database(tmp_path / "catalog.db", create=True)
    commit(made, lambda change: change.connection.execute("INSERT INTO state VALUES (1, 'td', 'dc1', 1)"))
    for host in (HOST1, HOST2):
        commit(made, lambda change, row=host: put_node(change, row))
    for service in (WEB1, WEB2, DB1):
        commit(made, lambda change, row=service: put_service(change, row))
    yield made
    made.close()


def touched(connection, write):
    return commit(connection, write)[1]


def test_what_was_put_is_read(connection):
    assert [stored.value for stored in read_nodes(connection)] == [HOST1, HOST2]
    assert read_node(connection, "host1").value == HOST1
    assert read_node(connection, "host9") is None
    assert read_service(connection, "host1", "db").value == DB1
    assert [read_names_of(connection, "host1", each) for each in ("", "web", "none")] == [["db", "web"], ["web"], []]
    assert [stored.value for stored in read_services_of(connection, "host1")] == [DB1, WEB1]
    assert [(n.value, s.value) for n, s in read_instances(connection, "web")] == [(HOST1, WEB1), (HOST2, WEB2)]
    assert read_names(connection) == {"db": [], "web": ["a", "b"]}


def test_the_same_again_changes_nothing(connection):
    before = newest_index(connection)
    assert touched(connection, lambda change: put_node(change, HOST1)) == set()
    assert touched(connection, lambda change: put_service(change, WEB1)) == set()
    assert newest_index(connection) == before


def test_a_changed_row_keeps_the_number_it_was_made_with(connection):
    made = read_service(connection, "host1", "web").create_index
    commit(connection, lambda change: put_service(change, ServiceRow("host1", "web", "web", 81)))
    stored = read_service(connection, "host1", "web")
    assert (stored.create_index, stored.modify_index) == (made, newest_index(connection))


@pytest.mark.parametrize(
    ("write", "topics"),
    [
        (lambda c: put_service(c, ServiceRow("host1", "web", "web", 81, tags=("a",))), {"service:web", "node:host1"}),
        (lambda c: put_service(c, ServiceRow("host1", "web", "web", 80)), {"service:web", "node:host1", "services"}),
        (lambda c: put_service(c, ServiceRow("host1", "x", "x")), {"service:x", "node:host1", "services"}),
        (
            lambda c: put_service(c, ServiceRow("host1", "db", "sql")),
            {"service:sql", "service:db", "gone:service", "node:host1", "services"},
        ),
        (lambda c: put_node(c, NodeRow("host3", "", "10.0.0.3")), {"nodes", "node:host3"}),
        (
            lambda c: put_node(c, NodeRow("host1", "", "10.0.0.9")),
            {"nodes", "node:host1", "service:web", "service:db"},
        ),
        (lambda c: delete_service(c, "host1", "web"), {"service:web", "node:host1", "services"}),
        (lambda c: delete_service(c, "host1", "db"), {"service:db", "gone:service", "node:host1", "services"}),
        (lambda c: delete_service(c, "host1", "nothing"), set()),
        (
            lambda c: delete_node(c, "host1"),
            {"nodes", "node:host1", "gone:node", "service:web", "service:db", "gone:service", "services"},
        ),
        (lambda c: delete_node(c, "nobody"), set()),
    ],
)
def test_a_change_concerns_exactly_these_watches(connection, write, topics):
    assert touched(connection, write) == topics | ({REGISTRATIONS} if topics else set())


def test_a_host_takes_its_services_with_it(connection):
    commit(connection, lambda change: delete_node(change, "host1"))
    assert read_instances(connection, "db") == []
    assert index_of(connection, [service_topic("db")]) == newest_index(connection)
    assert index_of(connection, [node_topic("host1")]) == newest_index(connection)


def test_a_service_needs_its_host(connection):
    with pytest.raises(BadRequest, match="host9 is not registered: the agent there does it"):
        commit(connection, lambda change: put_service(change, ServiceRow("host9", "web", "web")))


def test_a_row_has_a_size(connection):
    """Else some tokens make an answer that no agent reads, and a new service that cannot be read freezes all policy."""
    meta = {f"key{number}": "v" * 100 for number in range(15)}
    commit(connection, lambda change: put_node(change, NodeRow("host1", "", "10.0.0.1", meta=meta)))
    large = meta | {"more": "v" * 500}
    with pytest.raises(TooLarge, match=r"host1: .* more than 2048"):
        commit(connection, lambda change: put_node(change, NodeRow("host1", "", "10.0.0.1", meta=large)))
    with pytest.raises(TooLarge, match=r"web: .* more than 2048"):
        commit(connection, lambda change: put_service(change, ServiceRow("host1", "web", "web", meta=large)))


def test_the_fullest_answers_of_such_rows_can_be_read():
    around = 700  # what an answer says besides what the rows hold
    assert (limits.CATALOG_ROW_BYTES + around) * limits.CATALOG_HOSTS <= limits.CATALOG_BODY_BYTES
    assert (2 * limits.CATALOG_ROW_BYTES + around) * limits.CATALOG_INSTANCES <= limits.CATALOG_BODY_BYTES


def test_one_host_cannot_fill_the_table(connection, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_SERVICES_PER_HOST", 2)
    with pytest.raises(TooLarge, match="host1 has 2 services"):
        commit(connection, lambda change: put_service(change, ServiceRow("host1", "x", "x")))
    commit(connection, lambda change: put_service(change, ServiceRow("host2", "x", "x")))


def test_the_tables_have_limits(connection, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_ROWS", 2)
    with pytest.raises(TooLarge, match="nodes"):
        commit(connection, lambda change: put_node(change, NodeRow("host3", "", "10.0.0.3")))
    commit(connection, lambda change: put_node(change, NodeRow("host1", "", "10.0.0.3")))
