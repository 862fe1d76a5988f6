"""Services as a table."""

import pytest
from click.testing import CliRunner

from nodeagent.cli.services import HEADERS, services, state, table_rows
from nodeagent.control.report import InstancePart, IntentionPart, ServicePart, ServicesAnswer


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


def test_a_drained_instance_is_told_as_such() -> None:
    assert state(instance(healthy=False, drained=True)) == "meshed, drained"
    assert state(instance(healthy=False)) == "meshed, unhealthy"


def test_a_service_without_an_instance_has_a_line_too() -> None:
    assert table_rows(service()) == [["web", "http", "strict", "-", "-", "no instance", "allow shop"]]


def test_an_instance_past_the_agent_does_not_look_protected() -> None:
    past = instance(is_local=True, uncaptured="port 22 is never captured; use another port")
    assert table_rows(service(past, instance())) == [
        ["web", "http", "-", "host2", "10.77.0.2:80 [fd77::2]:80", "here, NOT PROTECTED", "anybody"],
        ["web", "http", "strict", "host2", "10.77.0.2:80 [fd77::2]:80", "meshed", "allow shop"],
    ]


def test_why_it_is_not_protected_stands_below_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    past = [instance(is_local=True, id=name, uncaptured="port 22 is never captured") for name in ("a", "b")]
    answer = ServicesAnswer(generation=1, services=[service(*past)], wildcards=[])
    monkeypatch.setattr("nodeagent.cli.services.ask", lambda *_, **__: answer)
    result = CliRunner().invoke(services, [])
    assert result.stderr == "warning: web is called past the agent, by anybody: port 22 is never captured\n"


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
