"""Findings as they are printed for programs."""

import msgspec

from nodeagent.diagnose.finding import Finding, fail, warn, well


def test_a_verdict_bears_its_level() -> None:
    """And a cure, but where all is well."""
    assert [well("a"), warn("b", "c"), fail("d", "e")] == [("ok", "a", ""), ("warning", "b", "c"), ("failed", "d", "e")]


def test_a_finding_is_plain_json() -> None:
    """Field by field, for gates in scripts."""
    finding = Finding("host", "ports", *fail("taken", "end it"))
    assert msgspec.to_builtins(finding) == {"group": "host", "name": "ports", "level": "failed", "found": "taken", "cure": "end it"}
