"""Answers on a terminal and in a pipe."""

import json
import threading
from contextlib import suppress

import pytest

from nodeagent import limits
from nodeagent.cli.render import (
    align,
    clip,
    counting,
    duration,
    instant,
    printable,
    show_json,
    show_table,
    size,
    waiting,
)
from nodeagent.control.report import ErrorAnswer


def test_what_is_waited_for_is_said_late_or_never(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without what a terminal would obey; also where the wait ends in an error."""
    timers: list[threading.Timer] = []

    def start(timer: threading.Timer) -> None:
        timers.append(timer)

    monkeypatch.setattr(threading.Timer, "start", start)
    with suppress(OSError), waiting("the agent at \x1b[2J"):
        timers[0].function()
        raise OSError
    assert capsys.readouterr().err == "  · still waiting: the agent at ?[2J\n"
    assert (timers[0].interval, timers[0].finished.is_set()) == (limits.LAB_SAY_S, True)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h 0 min"), (86_399, "23 h 59 min"), (200_000, "2 d")],
)
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert expected == duration(seconds)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_sizes_are_short(number: int, expected: str) -> None:
    assert expected == size(number)


def test_no_time_is_a_dash() -> None:
    assert instant(0) == "-"
    assert instant(1_700_000_000) == "2023-11-14 22:13:20"


def test_what_a_terminal_would_obey_is_not_sent_to_it() -> None:
    assert printable("a\x1b[31mb\r\nü") == "a?[31mb??ü"


def test_columns_are_padded_and_lines_have_no_trailing_blanks() -> None:
    assert align([["A", "BB"], ["long", "b"]]) == ["A     BB", "long  b"]
    assert align([]) == []


def test_a_pipe_gets_aligned_text(capsys) -> None:
    show_table(["NAME", "AT"], [["web", "[fd77::2]:80"]])
    show_table(["NAME", "AT"], [["web", "x"]], no_headers=True)
    assert capsys.readouterr().out == "NAME  AT\nweb   [fd77::2]:80\nweb  x\n"


def test_a_terminal_gets_the_same_cells(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    show_table(["NAME", "AT"], [["web", "[fd77::2]:80"]])
    show_table(["NAME", "AT"], [])
    out = capsys.readouterr().out
    assert "[fd77::2]:80" in out
    assert "NAME" in out


def test_long_cells_are_cut_on_a_terminal_alone(capsys, monkeypatch) -> None:
    show_table(["WHY"], [["denied: " + "x" * 60]], most=20)
    assert capsys.readouterr().out == "WHY\ndenied: " + "x" * 60 + "\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    show_table(["WHY"], [["denied: " + "x" * 60]], most=20)
    assert "denied: " + "x" * 11 + "…" in capsys.readouterr().out


def test_what_fits_is_not_cut() -> None:
    assert [clip("abc", most) for most in (0, 2, 3)] == ["abc", "a…", "abc"]


def test_json_is_indented_and_versioned(capsys) -> None:
    show_json(ErrorAnswer(error="x"))
    out = capsys.readouterr().out
    assert json.loads(out) == {"apiVersion": "nodeagent/v1", "error": "x"}
    assert out.startswith("{\n  ")


def test_what_takes_long_is_counted_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """And what does not says nothing."""
    now = [0.0]
    tell = counting(24, lambda: now[0])
    for done in range(1, 25):
        now[0] += limits.LAB_SAY_S / 8  # of a second, which adds up exactly
        tell(done)
    assert capsys.readouterr().err == "  · 8 of 24\n  · 16 of 24\n  · 24 of 24\n"
