"""What tests of judgements share."""

from collections.abc import Iterable

from nodeagent.diagnose.finding import Verdict


def shown(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str]]:
    """The verdicts, all of which say something, and what is not well with a cure."""
    found = [tuple(verdict) for verdict in verdicts]
    assert found
    assert all(text and (cure or level == "ok") for level, text, cure in found)
    return found


def only(verdicts: Iterable[Verdict]) -> tuple[str, str, str]:
    """The one verdict."""
    (verdict,) = shown(verdicts)
    return verdict
