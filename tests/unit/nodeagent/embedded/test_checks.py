"""The table of checks."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.embedded.access import Caller
from nodeagent.embedded.check import parse_check, parse_checks_of
from nodeagent.embedded.checks import (
    check_json,
    end,
    keep_checks,
    put_checks,
    read_check,
    read_checks_for,
    read_checks_of,
    read_timed,
    remove_check,
    tell,
)
from nodeagent.embedded.refusal import Forbidden, TooLarge
from nodeagent.embedded.registration import NodeRow, ServiceRow
from nodeagent.embedded.registrations import put_node, put_service
from tests.unit.nodeagent.embedded.desk import ROOT

WEB = ServiceRow("host1", "web", "web", 80, tags=("blue",))


@pytest.fixture
def run(desk):
    def write(make):
        return asyncio.run(desk.store.write(make))

    def fill(change):
        put_node(change, NodeRow("host1", "", "10.0.0.1"))
        put_service(change, WEB)
        put_checks(change, ROOT, parse_checks_of([{"TTL": "30s"}], "host1", "web", "web"))
        put_checks(change, ROOT, [parse_check({"Name": "disk", "TTL": "9s", "Status": "passing"}, "host1")])

    write(fill)
    return write


def test_checks_are_found_by_host_by_service_and_by_id(run, desk):
    assert [health.row.id for health in desk.store.read(lambda c: read_checks_of(c, "host1"))] == ["disk", "service:web"]
    found = desk.store.read(lambda c: read_checks_for(c, "web"))
    assert {key: [each.row.id for each in rows] for key, rows in found.items()} == {("host1", "web"): ["service:web"], ("host1", ""): ["disk"]}
    assert desk.store.read(lambda c: read_check(c, "host1", "other")) is None
    shown = check_json(desk.store.read(lambda c: read_check(c, "host1", "service:web")))
    assert (shown["ServiceName"], shown["ServiceTags"], shown["Status"], shown["Type"]) == ("web", ("blue",), "critical", "ttl")


def test_only_those_that_are_well_wait_for_a_word(run, desk):
    assert desk.store.read(read_timed) == [("host1", "disk", 9.0)]
    run(lambda change: tell(change, ROOT, "host1", "disk", "critical", ""))
    assert desk.store.read(read_timed) == []


def test_what_was_said_last_stays_readable_of_a_check_that_ends(run, desk):
    def say(words):
        run(lambda change: tell(change, ROOT, "host1", "disk", "passing", words))
        run(lambda change: end(change, read_check(change.connection, "host1", "disk"), "nobody looks"))
        health = desk.store.read(lambda c: read_check(c, "host1", "disk"))
        return health.status, health.output

    assert say("") == ("critical", "nobody looks")
    assert say("98 % full") == ("critical", "nobody looks; before: 98 % full")
    assert len(say("x" * limits.CHECK_OUTPUT_BYTES)[1]) == limits.CHECK_OUTPUT_BYTES


def test_others_than_those_that_are_kept_go(run, desk):
    run(lambda change: keep_checks(change, WEB, ()))
    assert [health.row.id for health in desk.store.read(lambda c: read_checks_of(c, "host1"))] == ["disk"]


def test_a_token_that_was_revoked_meanwhile_writes_nothing(run, desk):
    gone = Caller("gone", "node", "host1", ("web",))
    for write in (
        lambda change: tell(change, gone, "host1", "disk", "critical", ""), lambda change: remove_check(change, gone, "host1", "disk"),
        lambda change: put_checks(change, gone, ()),
    ):  # fmt: skip
        with pytest.raises(Forbidden, match="revoked"):
            run(write)


def test_a_check_that_is_too_large_is_refused(run):
    header = {f"h{number}": ["x" * limits.CHECK_TEXT_CHARS] for number in range(3)}
    asked = parse_check({"Name": "big", "HTTP": "http://127.0.0.1/", "Interval": "1s", "Header": header, "ServiceID": "web"}, "host1")
    with pytest.raises(TooLarge, match=r"big: .* bytes of texts and headers, more than"):
        run(lambda change: put_checks(change, ROOT, [asked]))


def test_a_change_of_one_check_reads_no_other_service_of_its_host(run, desk):
    """A host has up to a thousand, and an agent that is silent ends all their checks at once."""

    def spoil(change):
        change.connection.execute("INSERT INTO services VALUES ('host1', 'odd', 'odd', x'00', 1, 1)")
        change.connection.execute("INSERT INTO checks VALUES ('host1', 'odd', 'odd', x'00', 0, 'passing', '', 1, 1)")

    run(spoil)
    run(lambda change: tell(change, ROOT, "host1", "service:web", "passing", ""))
    run(lambda change: tell(change, ROOT, "host1", "disk", "critical", ""))
    run(lambda change: keep_checks(change, WEB, ()))
    assert desk.store.read(lambda c: read_check(c, "host1", "service:web")) is None
