"""Looks side by side, each with an end."""

import threading
import time

import pytest

from nodeagent import limits
from nodeagent.diagnose.facts import Blind
from nodeagent.probe.bounded import look


def test_each_answer_has_its_name_whatever_the_others_do() -> None:
    """A failure is told and is no failure of the rest."""

    def fail() -> object:
        raise OSError(13, "Permission denied")

    def fail_without_a_word() -> object:
        raise ValueError

    found = look({"good": lambda: 7, "nothing": lambda: None, "bad": fail, "mute": fail_without_a_word}, 10)
    assert found == {"good": 7, "nothing": None, "bad": Blind("[Errno 13] Permission denied"), "mute": Blind("ValueError")}


def test_what_hangs_is_left_behind() -> None:
    """And does not hold the others up."""
    release, told = threading.Event(), []
    began = time.monotonic()
    found = look({"hangs": release.wait, "good": lambda: 1}, 0.1, told.append)
    release.set()
    assert found == {"hangs": Blind("it took more than 0.1 s"), "good": 1}
    assert time.monotonic() - began < 5
    assert told == ["still looking at: hangs"]


def test_a_long_look_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and takes the answer all the same."""
    monkeypatch.setattr(limits, "LAB_SAY_S", 0.01)
    release, told = threading.Event(), []

    def say(what: str) -> None:
        told.append(what)
        release.set()

    assert look({"slow": lambda: release.wait(10)}, 10, say) == {"slow": True}
    assert told == ["still looking at: slow"]
