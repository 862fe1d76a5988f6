"""What of apply and its siblings needs no kernel; the rest is in tests/e2e/test_redirect_*.py."""

import pytest

from redirect import kernel
from redirect.errors import RedirectError
from redirect.kernel import Report, plan_text
from redirect.nft import render_table
from redirect.plan import plan
from redirect.settings import Settings


def test_the_plan_as_text_is_both_tables() -> None:
    """As `nft -f` would take it."""
    settings = Settings(agent_uids=(1,))
    text = plan_text(settings)
    assert [line for line in text.splitlines() if line.startswith("table")] == [
        "table inet nodeagent {",
        "table inet nodeagent_keeper {",
    ]
    assert all(render_table(table) in text for table in plan(settings))


@pytest.mark.parametrize("error", [OSError(1, "no ctnetlink"), RedirectError("open TCP sockets cannot be listed")])
def test_what_cannot_be_asked_of_before_keeps_no_rule_away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It is said among the changes; `apply` goes on."""

    def refuse(_: object) -> int:
        raise error

    monkeypatch.setattr(kernel, "forget_redirected", refuse)
    (said,) = kernel._forget_tracked({15001})
    assert str(error) in said


def test_a_report_of_nothing_is_empty() -> None:
    """So that `if report.changes` reads as it should."""
    assert Report() == Report(changes=(), left=(), emptied=())
