"""What a command that waits says."""

import pytest

from nodeagent.lab import progress
from nodeagent.lab.progress import Progress


def test_silence_first_then_each_new_thing_once_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of silence; what stays the same is said once; what changes all the time, every two seconds."""
    clock = iter([0.0, 1.9, 2.0, 2.0, 2.1, 3.9, 4.1, 4.1])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    said: list[str] = []
    wait = Progress(said.append)
    for what in ("a", "a", "a", "b", "c", "d"):
        wait.waits_for(what)
    assert said == ["still waiting: a", "still waiting: d"]
