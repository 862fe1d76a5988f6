"""Checks on the command line."""

import click
import pytest

from nodeagent.cli.service_checks import Check, checks_body, health_of, why_of


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("http://127.0.0.1:8080/health", {"HTTP": "http://127.0.0.1:8080/health"}), ("https://127.0.0.1/", {"HTTP": "https://127.0.0.1/"}),
        ("tcp://127.0.0.1:5432", {"TCP": "127.0.0.1:5432"}), ("tcp://[::1]:80/", {"TCP": "[::1]:80"}), ("ttl:2m", {"TTL": "120s"}),
    ],
)  # fmt: skip
def test_a_check_is_an_url_or_a_time(text, body):
    assert Check().convert(text, None, None) == body


@pytest.mark.parametrize("text", ["", "8080", "ttl:", "ttl:soon", "ttl:2d", "ftp://x", "/bin/true"])
def test_what_is_none_is_refused_with_what_one_looks_like(text):
    with pytest.raises(click.BadParameter, match=r"no check: write http|no time such as"):
        Check().convert(text, None, None)


def test_what_is_looked_at_has_an_interval():
    bodies = checks_body([{"TTL": "5s"}, {"TCP": "127.0.0.1:1"}], 10, 2)
    assert bodies == [{"TTL": "5s"}, {"TCP": "127.0.0.1:1", "Interval": "10s", "Timeout": "2s"}]


def test_the_worst_counts_and_the_hosts_too():
    def check(service_id, status):
        return {"ServiceID": service_id, "Status": status}

    assert health_of("web", []) == "-"
    assert health_of("web", [check("db", "critical")]) == "-"
    assert health_of("web", [check("web", "passing"), check("web", "warning")]) == "warning"
    assert health_of("web", [check("", "critical"), check("web", "passing")]) == "critical"


def test_why_is_what_the_worst_checks_said():
    """The others may well pass; a host's own counts for all that runs there."""
    checks = [
        {"CheckID": "service:web", "ServiceID": "web", "Status": "critical", "Output": "HTTP GET /: 503\nbusy"},
        {"CheckID": "slow", "ServiceID": "web", "Status": "warning", "Output": "slow"},
        {"CheckID": "disk", "ServiceID": "", "Status": "critical", "Output": ""},
        {"CheckID": "service:db", "ServiceID": "db", "Status": "passing", "Output": "x" * 1000},
    ]
    assert why_of("web", checks) == "service:web: HTTP GET /: 503 busy; disk"
    assert why_of("db", checks[-1:]) == why_of("web", []) == "-"
    assert len(why_of("db", [checks[-1] | {"Status": "warning"}])) < 150


def test_completion_begins_a_check():
    assert [item.value for item in Check().shell_complete(None, None, "t")] == ["tcp://127.0.0.1:", "ttl:30s"]
