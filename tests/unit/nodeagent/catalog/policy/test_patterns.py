"""Patterns are RE2's."""

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.patterns import pattern_fault


@pytest.mark.parametrize("pattern", ["/a.*", "(?i)x", "^$", "[a-z]+", "\\d{3}", "a|b", ""])
def test_patterns_of_re2_are_taken(pattern):
    assert pattern_fault(pattern) == ""


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "\\1", "a{2000}", "[", "*"])
def test_what_re2_cannot_is_refused_in_its_words(pattern):
    """Looking ahead and back is what makes others slow."""
    assert pattern_fault(pattern).startswith("not a pattern of RE2: ")


def test_a_pattern_that_takes_much_memory_is_refused(monkeypatch):
    pattern = "(([a-z]{100}){10}|x)"
    assert pattern_fault(pattern) == ""
    monkeypatch.setattr(limits, "POLICY_PATTERN_BYTES", 1024)
    assert "too large" in pattern_fault(pattern)
