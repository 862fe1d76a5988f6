"""What of apply and its siblings needs no kernel; the rest is in tests/e2e/test_redirect_*.py."""

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


def test_a_report_of_nothing_is_empty() -> None:
    """So that `if report.changes` reads as it should."""
    assert Report() == Report(changes=(), left=(), emptied=())
