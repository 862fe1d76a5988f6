"""Paths, and which faults are consequences of others."""

from nodeagent.catalog.policy.faults import Fault, below, unrelated


def test_paths_are_written_as_consuls_users_do():
    assert below(below(below("", "Routes"), 2), "Match") == "Routes[2].Match"
    assert str(Fault("A.B", "x")) == "A.B: x"
    assert str(Fault("", "x")) == "x"


def test_what_is_at_above_or_below_a_known_fault_is_its_consequence():
    known = [Fault("Splits[1].Weight", "x")]
    found = [Fault(path, "y") for path in ("Splits", "Splits[1]", "Splits[1].Weight.X", "Splits[10]", "Splits[1].Weights", "Meta", "")]
    assert [fault.path for fault in unrelated(found, known)] == ["Splits[10]", "Splits[1].Weights", "Meta"]
