"""Paths, and which faults are consequences of others."""

from nodeagent import limits
from nodeagent.catalog.policy.faults import Fault, below, capped, unrelated


def test_paths_are_written_as_consuls_users_do():
    assert below(below(below("", "Routes"), 2), "Match") == "Routes[2].Match"
    assert str(Fault("A.B", "x")) == "A.B: x"
    assert str(Fault("", "x")) == "x"


def test_what_is_at_above_or_below_a_known_fault_is_its_consequence():
    known = [Fault("Splits[1].Weight", "x")]
    found = [Fault(path, "y") for path in ("Splits", "Splits[1]", "Splits[1].Weight.X", "Splits[10]", "Splits[1].Weights", "Meta", "")]
    assert [fault.path for fault in unrelated(found, known)] == ["Splits[10]", "Splits[1].Weights", "Meta"]


def test_what_is_at_the_entry_itself_is_a_consequence_of_whatever_is_known():
    assert [*unrelated([Fault("", "y")], [Fault("A", "x")])] == [*unrelated([Fault("A", "y")], [Fault("", "x")])] == []
    assert [*unrelated([Fault("", "y")], [])] == [Fault("", "y")]


def test_no_more_is_looked_for_than_is_told():
    def endless():
        number = 0
        while True:
            yield Fault(f"A[{number}]", "x")
            number += 1

    assert len(capped(endless(), 0)) == limits.POLICY_FAULTS
    assert len(capped(unrelated(endless(), [Fault("A[1]", "y")]), 90)) == limits.POLICY_FAULTS - 90
    assert capped(endless(), limits.POLICY_FAULTS + 1) == []
