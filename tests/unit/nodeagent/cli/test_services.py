"""Services as a table."""

import pytest

from nodeagent.cli.services import HEADERS, state, table_rows
from nodeagent.control.report import InstancePart, IntentionPart, ServicePart


def instance(**facts) -> InstancePart:
    usual = {"id": "web-1", "host": "host2", "addresses": ["10.77.0.2:80", "[fd77::2]:80"], "healthy": True}
    return InstancePart(**(usual | {"is_local": False, "is_meshed": True} | facts))


def service(*instances: InstancePart) -> ServicePart:
    rows = [IntentionPart(source="shop", destination="web", action="allow")]
    return ServicePart(name="web", protocol="http", mode="strict", instances=list(instances), intentions=rows)


def test_one_line_for_each_instance() -> None:
    rows = table_rows(service(instance(), instance(host="host3", is_meshed=False)))
    assert len(rows) == 2
    assert rows[0] == ["web", "http", "strict", "host2", "10.77.0.2:80 [fd77::2]:80", "meshed", "allow shop"]
    assert all(len(row) == len(HEADERS) for row in rows)


def test_a_service_without_an_instance_has_a_line_too() -> None:
    assert table_rows(service()) == [["web", "http", "strict", "-", "-", "no instance", "allow shop"]]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"is_local": True}, "here"),
        ({}, "meshed"),
        ({"is_meshed": False}, "no agent"),
        ({"healthy": False}, "meshed, unhealthy"),
    ],
)
def test_states(facts: dict, expected: str) -> None:
    assert expected == state(instance(**facts))
