"""Patterns are RE2's, and bounded in what they take."""

import pytest

from nodeagent import limits
from nodeagent.model.patterns import BadPattern, compile_pattern

ROOM = limits.POLICY_PATTERN_BYTES


@pytest.mark.parametrize("text", ["/a.*", "(?i)x", "a{1000}", r"\pL" * limits.PATTERN_CLASSES, r"[\p{L}\P{N}]", ""])
def test_patterns_of_re2_are_taken(text):
    assert compile_pattern(text, 4 * ROOM)


@pytest.mark.parametrize("text", ["(", "(?=a)", r"(a)\1", "a{2000}", "*"])
def test_what_re2_cannot_is_refused_in_its_words(text):
    with pytest.raises(BadPattern, match="not a pattern of RE2: "):
        compile_pattern(text, ROOM)


def test_a_pattern_that_takes_much_memory_is_refused():
    with pytest.raises(BadPattern, match="too large"):
        compile_pattern("(([a-z]{100}){10}|x)", 1024)


@pytest.mark.parametrize("text", [r"\pL" * 17, r"[\PL\p{Greek}" + r"\pN" * 15 + "]"])
def test_a_pattern_of_very_many_characters_is_refused_before_it_is_compiled(text):
    with pytest.raises(BadPattern, match=f"at most {limits.PATTERN_CLASSES} classes of Unicode"):
        compile_pattern(text, ROOM)
