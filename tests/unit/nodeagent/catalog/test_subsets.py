"""Which instances are in which subset."""

import msgspec
import pytest

from nodeagent import limits
from nodeagent.catalog.consul_rows import NodeRow, ServiceRow
from nodeagent.catalog.labels import labels_of
from nodeagent.catalog.state import InstanceRow
from nodeagent.catalog.subsets import _complaint, _question, subset_faults, subsets_of
from nodeagent.model.policy.resolving import ServiceResolver, Subset
from tests.support.mesh import HOST1, HOST2, instance


def labelled(row: InstanceRow, zone: str, *tags: str, **meta: str) -> InstanceRow:
    labels = labels_of(NodeRow("x", meta={"zone": zone}), ServiceRow(tags=list(tags), meta=meta), "nodeagent")
    return msgspec.structs.replace(row, labels=labels)


ROWS = (
    labelled(instance(HOST1, 80), "a", "v1", version="1"),
    labelled(instance(HOST2, 81), "b", "v2", version="2"),
    msgspec.structs.replace(instance(HOST2, 82), is_warned=True),
)


def places(subset: Subset) -> list[int]:
    resolver = ServiceResolver(kind="service-resolver", name="web", subsets={"s": subset})
    return [place for place, within in enumerate(subsets_of(resolver, ROWS)) if within == ("s",)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [0, 1, 2]), ("Service.Meta.version == 1", [0]), ('"v2" in Service.Tags', [1]), ("Node.Meta.zone != a", [1, 2]),
        ("Service.Port == 82", [2]), ('Service.Service == "web" and Node.Node == host2', [1, 2]), ("Service.ID == `host1-80`", [0]),
        ("Service.Tags is empty", [2]), ("Service.Meta.version matches `^[12]$`", [0, 1]),
    ],
)  # fmt: skip
def test_a_filter_asks_labels_names_and_port(text: str, found: list[int]) -> None:
    """As of a health row."""
    assert found == places(Subset(filter=text))


def test_only_passing_leaves_out_who_warns() -> None:
    """Also where there is no filter."""
    assert [0, 1] == places(Subset(only_passing=True))
    assert [1] == places(Subset(filter="Node.Node == host2", only_passing=True))


@pytest.mark.parametrize("text", ["Checks.Status == passing", "Service.Kind == x", "not an expression at all", "Service.Meta.a matches `(`"])
def test_nobody_is_where_a_filter_cannot_be_asked(text: str) -> None:
    """And it is said why: everybody would be as wrong, and worse."""
    assert [] == places(Subset(filter=text))
    resolver = ServiceResolver(kind="service-resolver", name="web", subsets={"s": Subset(filter=text), "t": Subset()})
    assert ["s"] == [*subset_faults(resolver)]


def test_nobody_is_where_a_pattern_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many instances: all that a host knows waits for it."""
    monkeypatch.setattr(limits, "SUBSET_ROW_STEPS", 0)
    monkeypatch.setattr(limits, "SUBSET_STEPS", 1)
    assert [] == places(Subset(filter="Service.Meta.version matches `^[12]+$`"))
    assert [0] == places(Subset(filter="Service.Meta.version == 1"))


def test_all_subsets_of_a_service_take_so_long_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write the entry of one service would keep each host from its work by many; patterns count, and how often is asked."""
    pattern = "Service.Meta.version matches `^[12]+$`"
    resolver = ServiceResolver(kind="service-resolver", name="web", subsets={name: Subset(filter=pattern) for name in "abc"})
    monkeypatch.setattr(limits, "SUBSET_STEPS", 2 * limits.SUBSET_ROW_STEPS * len(ROWS))
    assert [(), (), ()] == subsets_of(resolver, ROWS)[2:] * 3
    assert [("a",)] == subsets_of(resolver, ROWS)[:1]
    monkeypatch.setattr(limits, "SUBSET_STEPS", limits.SUBSET_STEPS + limits.SUBSET_ROW_STEPS)
    assert [("a", "b")] == subsets_of(resolver, ROWS)[:1]


def test_five_subsets_of_the_largest_service_are_within_that() -> None:
    """They are no attack."""
    assert 5 * limits.SUBSET_ROW_STEPS * limits.CATALOG_INSTANCES <= limits.SUBSET_STEPS


def test_so_many_filters_are_kept() -> None:
    """Of thousands of services each has its own."""
    assert limits.FILTERS_KEPT == _question.cache_parameters()["maxsize"]
    assert limits.FILTER_FAULTS_KEPT == _complaint.cache_parameters()["maxsize"]
