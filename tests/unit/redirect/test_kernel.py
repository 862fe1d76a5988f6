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


@pytest.mark.parametrize("failed", [None, RedirectError("busy"), OSError(28, "disk is full")])
def test_a_failure_says_whether_all_was_put_back(failed: Exception | None) -> None:
    """With the difference or failure that began it, and the cure where what is in force is not known."""

    def undo_it() -> None:
        if failed:
            raise failed

    def fail(error: RedirectError) -> None:
        with kernel._whole_or_not() as undo:
            undo.callback(undo_it)
            raise error

    for error, began in ((kernel._Differs("a rule"), "read back, the kernel differs from the plan"), (RedirectError("no"), "no")):
        with pytest.raises(RedirectError) as caught:
            fail(error)
        said = str(caught.value)
        assert said.startswith(began)
        assert str(error) in said
        assert ("not all could be put back" in said and "nodeagent intercept apply" in said) is bool(failed)
        assert "all was put back" not in said or not failed


def test_what_went_well_is_not_undone() -> None:
    """Nothing is put back then."""
    undone: list[str] = []
    with kernel._whole_or_not() as undo:
        undo.callback(undone.append, "it")
    assert undone == []


def test_a_report_of_nothing_is_empty() -> None:
    """So that `if report.changes` reads as it should."""
    assert Report() == Report(changes=(), left=(), emptied=())
