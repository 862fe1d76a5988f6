"""The helper processes as seen from here: asked, refusing, dead."""

import subprocess
import time

import pytest

from redirect import iptables_process
from redirect.errors import RedirectError
from redirect.iptables import render_layout
from redirect.iptables_lines import Layout, Line
from redirect.iptables_process import Helpers, shared_helpers
from redirect.plan import FAMILIES, plan
from redirect.settings import Settings

SETTINGS = Settings(agent_uids=(990,), backend="iptables", mesh_cidrs=("10.1.0.0/16", "fd77::/64"))


def test_the_library_takes_the_whole_plan_of_both_families() -> None:
    """Twice by one process each, and they end with their owner."""
    layouts = {family: render_layout(plan(SETTINGS), family) for family in FAMILIES}
    with Helpers() as helpers:
        helpers.check(layouts)
        helpers.check(layouts)
        running = [*helpers._running.values()]
        assert [process.poll() for process in running] == [None, None]
    assert [process.poll() for process in running] == [0, 0]


def test_a_helper_that_ended_is_an_error_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """libxtables ends its callers: nobody here ends with them."""
    monkeypatch.setattr(iptables_process, "_PROGRAM", ("/bin/false",))
    with Helpers() as helpers, pytest.raises(RedirectError, match="helper process for IPv4 has ended"):
        helpers.check({4: {}})


def test_a_helper_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason."""
    monkeypatch.setattr(iptables_process, "_PROGRAM", ("/nonexistent",))
    with Helpers() as helpers, pytest.raises(RedirectError, match="cannot be started"):
        helpers.check({4: {}})


def test_a_helper_that_hangs_is_an_error_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would write what is to be captured meanwhile. One that does not end when it should is killed, too."""
    monkeypatch.setattr(iptables_process, "_PROGRAM", ("/bin/sh", "-c", "exec sleep 1000"))
    monkeypatch.setattr(iptables_process, "_ANSWER_S", 0.2)
    with Helpers() as helpers:
        helpers._send(6, {}, time.monotonic() + 20)
        running = helpers._running[6]
        with pytest.raises(RedirectError, match=r"helper process for IPv4 did not answer within 0\.2 s"):
            helpers.check({4: {}})
    assert running.poll() == -9


@pytest.mark.parametrize(
    ("script", "lines"), [("printf '{\"error\": '; exec sleep 1000", 1), ("exec sleep 1000", 10_000)], ids=["answers half", "reads nothing"]
)
def test_two_helpers_that_hang_in_the_middle_cost_one_wait(monkeypatch: pytest.MonkeyPatch, script: str, lines: int) -> None:
    """Within an answer, or where the request is more than a pipe holds."""
    monkeypatch.setattr(iptables_process, "_PROGRAM", ("/bin/sh", "-c", script))
    monkeypatch.setattr(iptables_process, "_ANSWER_S", 0.2)
    waits: list[float | None] = []
    wait = subprocess.Popen.wait

    def noted(process: "subprocess.Popen[bytes]", timeout: float | None = None) -> int:
        waits.append(timeout)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", noted)
    layout: Layout = {"nat": {"nodeagent_out": [Line({"protocol": "tcp"}, [], "RETURN", {})] * lines}}
    with Helpers() as helpers:
        with pytest.raises(RedirectError, match=r"did not answer within 0\.2 s"):
            helpers.check({4: layout, 6: layout})
        assert helpers._running == {}
    assert set(waits) == {0, 1}  # they are killed at once; then they end


@pytest.mark.parametrize(
    ("answer", "told"),
    [('{"found": {', "has ended"), ("}\n", "answers nonsense"), ("{}\n", "answers nonsense"), ('{"found": {"nat": 1}}\n', "answers nonsense")],
)
def test_what_is_no_answer_is_an_error_and_nobody_is_asked_again(monkeypatch: pytest.MonkeyPatch, answer: str, told: str) -> None:
    """As of one that was killed while it wrote; the other family's answer is not taken for one to the next question."""
    monkeypatch.setattr(iptables_process, "_PROGRAM", ("/bin/sh", "-c", 'read -r asked; printf %s "$0"', answer))
    with Helpers() as helpers:
        with pytest.raises(RedirectError, match=f"helper process for IPv4 {told}"):
            helpers.read({4: {}, 6: {}})
        assert helpers._running == {}


def test_calls_that_share_their_helpers_start_them_once_and_end_them_at_the_end() -> None:
    """A repair is three calls."""
    with shared_helpers():
        first, second = Helpers.shared(), Helpers.shared()
        first.check({4: {}})
        running = first._running[4]
        first.close_unless_shared()
        second.check({4: {}})
        assert second._running[4] is running
        assert running.poll() is None
    assert running.poll() == 0
    assert Helpers.shared() is not first


def test_after_a_helper_has_ended_no_answer_of_before_is_taken_for_one_to_the_next_question() -> None:
    """The other family's was not read."""
    with shared_helpers():
        helpers = Helpers.shared()
        helpers.check({4: {}, 6: {}})
        helpers._running[4].kill()
        helpers._running[4].wait()
        with pytest.raises(RedirectError, match="helper process for IPv4 has ended"):
            helpers.check({6: {}, 4: {}})
        assert helpers._running == {}
        helpers.check({4: {}, 6: {}})
