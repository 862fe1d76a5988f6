"""Our own kinds: good and bad."""

import pytest

from nodeagent.catalog.policy.own import budget_faults, fault_faults, mirror_faults, rate_faults
from tests.support.entries import FULL, bad, good


@pytest.mark.parametrize(
    ("kind", "said", "sentence"),
    [
        ("mirror", {}, "Copies: give at least one"),
        ("mirror", {"Copies": [{"Service": "web"}]}, "Copies[0].Service: is the service itself"),
        ("mirror", {"Copies": [{"Service": "a", "Percent": 101}]}, "Copies[0].Percent: Expected a number <= 100"),
        ("mirror", {"Copies": [{"Service": "a", "Match": {"HTTP": {"PathExact": "a"}}}]}, "Copies[0].Match.HTTP.PathExact"),
        ("fault", {}, "Injections: give at least one"),
        ("fault", {"Injections": [{}]}, "Injections[0]: does nothing"),
        ("fault", {"Injections": [{"Abort": {}}]}, "Injections[0].Abort: give exactly one of HTTPStatus and GRPCStatus"),
        ("fault", {"Injections": [{"Abort": {"HTTPStatus": 99}}]}, "Injections[0].Abort.HTTPStatus: Expected"),
        ("fault", {"Injections": [{"Delay": "1s", "Match": {"HTTP": {"PathRegex": "("}}}]}, "Injections[0].Match.HTTP.PathRegex"),
        ("retry-budget", {}, "says nothing: give Ratio"),
        ("retry-budget", {"Ratio": 1.5}, "Ratio: Expected a number <= 1"),
        ("rate-limit", {}, "says nothing: give Total"),
        ("rate-limit", {"Total": {}}, "Total.RequestsPerSecond: is missing"),
        ("rate-limit", {"Total": {"RequestsPerSecond": 0, "Burst": 5}}, "Total: Burst needs RequestsPerSecond above 0"),
        ("rate-limit", {"Overrides": [{"Sources": [], "RequestsPerSecond": 5}]}, "Overrides[0].Sources: give at least one"),
        (
            "rate-limit",
            {"Overrides": [{"Sources": ["a"], "RequestsPerSecond": 5}, {"Sources": ["a"], "RequestsPerSecond": 6}]},
            "Overrides[1].Sources: a stands in an earlier one",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(kind, said, sentence):
    assert sentence in bad(kind, **said)


def test_the_full_entries_are_sound():
    checks = {"mirror": mirror_faults, "fault": fault_faults, "retry-budget": budget_faults, "rate-limit": rate_faults}
    assert [fault for kind, check in checks.items() for fault in check(good(FULL[kind]).spec)] == []
