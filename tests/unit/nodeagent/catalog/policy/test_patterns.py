"""Patterns are RE2's."""

import pytest

from nodeagent import limits
from nodeagent.catalog.policy import patterns
from nodeagent.catalog.policy.entries import read_entry
from nodeagent.catalog.policy.patterns import number_faults, pattern_fault, patterns_of
from nodeagent.errors import PolicyError


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


def router(*texts):
    """A service-router with a route for each pattern of a path."""
    return {"Kind": "service-router", "Name": "web", "Routes": [{"Match": {"HTTP": {"PathRegex": text}}} for text in texts]}


@pytest.fixture
def compiled(monkeypatch):
    """The patterns that were compiled, in order."""
    made, real = [], patterns.compile_pattern
    monkeypatch.setattr(patterns, "compile_pattern", lambda text, most: made.append(text) or real(text, most))
    patterns._fault_of.cache_clear()
    return made


def test_a_pattern_is_compiled_once_wherever_it_stands(compiled):
    for _ in range(2):
        read_entry(router("/a.*", "/b.*", "/a.*"))
    assert compiled == ["/a.*", "/b.*"]


def test_it_is_remembered_of_a_bounded_number():
    assert patterns._fault_of.cache_info().maxsize == limits.POLICY_PATTERNS_KEPT


def test_an_entry_has_a_bounded_number_of_different_patterns_and_none_beyond_is_compiled(compiled):
    most = [f"/{number}" for number in range(limits.POLICY_PATTERNS)]
    assert read_entry(router(*most, "/0")).spec.name == "web"
    compiled.clear()
    with pytest.raises(PolicyError, match=rf"Routes\[{limits.POLICY_PATTERNS}\].Match.HTTP.PathRegex: here the entry has more than"):
        read_entry(router(*most, "/more"))
    assert compiled == []


def test_who_has_as_many_faults_as_are_told_has_no_more_compiled(compiled):
    with pytest.raises(PolicyError) as refused:
        read_entry(router(*(f"({number}" for number in range(limits.POLICY_PATTERNS))))
    assert (len(refused.value.faults), len(compiled)) == (limits.POLICY_FAULTS, limits.POLICY_FAULTS)


def test_patterns_are_found_with_their_places():
    header, parameter = {"Name": "h", "Regex": "x+"}, {"Name": "q", "Regex": "y+"}
    spec = read_entry({
        "Kind": "service-router", "Name": "web",
        "Routes": [{}, {"Match": {"HTTP": {"PathPrefix": "/", "Header": [header], "QueryParam": [parameter]}}}],
    }).spec  # fmt: skip
    assert [tuple(each) for each in patterns_of(spec)] == [
        ("Routes[1].Match.HTTP.Header[0].Regex", "x+"), ("Routes[1].Match.HTTP.QueryParam[0].Regex", "y+"),
    ]  # fmt: skip
    assert list(number_faults(spec)) == []
