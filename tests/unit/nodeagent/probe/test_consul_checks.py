"""Checks that go through the mesh, told by Consul 1.8.7's own words for their results."""

import pytest

from nodeagent.probe.consul_checks import looped_checks


@pytest.mark.parametrize(
    ("kind", "said", "is_looped"),
    [
        ("tcp", "TCP connect 10.79.0.2:9000: Success", True),
        ("tcp", "dial tcp 10.79.0.2:9000: connect: connection refused", True),
        ("http", 'HTTP GET http://10.79.0.2:9000/health: 200 OK Output: "well"', True),
        ("http", 'Get "http://10.79.0.2:9000/health": read tcp 10.79.0.2:51234->10.79.0.2:9000: read: connection reset by peer', True),
        ("tcp", "TCP connect [fd77::2]:9000: Success", True),
        ("tcp", "TCP connect 127.0.0.1:9000: Success", False),
        ("tcp", "TCP connect 10.79.0.2:90001: Success", False),
        ("tcp", "TCP connect 110.79.0.2:9000: Success", False),
        ("http", "HTTP GET http://127.0.0.1:9000/: 200 OK Output: I am 10.79.0.2:9000", False),
        ("ttl", "10.79.0.2:9000", False),
        ("", "", False),
    ],
)
def test_a_check_is_known_by_where_it_dialled(kind, said, is_looped):
    rows = [{"CheckID": "c", "ServiceID": "web", "Type": kind, "Output": said}, {"CheckID": "other", "ServiceID": "db", "Type": kind, "Output": said}]
    assert looped_checks(rows, "web", ("10.79.0.2", "fd77::2"), 9000) == (("c",) if is_looped else ())


def test_a_row_without_a_result_is_none():
    assert looped_checks([{"ServiceID": "web", "Type": "tcp"}, {}], "web", ("10.79.0.2",), 80) == ()
