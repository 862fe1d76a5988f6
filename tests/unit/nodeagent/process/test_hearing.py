"""Who reads nothing: what is said of it, and when it is given up."""

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process.hearing import Hearing

DEAF, HEARS = False, True


class Scene:
    """The hearing of control, with pid 7. Owned by one test."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hearing = Hearing(lambda: self.now)

    def turns(self, count: int, *, has_read: bool, has_spoken: bool = True) -> None:
        """So many seconds."""
        for _ in range(count):
            self.now += limits.STATS_S
            self.hearing.note(7, has_read=has_read, has_spoken=has_spoken)


def test_one_that_reads_nothing_for_some_seconds_is_told_of_once_and_counted() -> None:
    """It cannot be asked itself: nobody else could tell. When it goes on, that is told, too."""
    scene = Scene()
    with capture_logs() as log:
        scene.turns(limits.CONTROL_MUTE_TURNS - 1, has_read=DEAF)
        assert (scene.hearing.is_deaf, scene.hearing.stalls, log) == (False, 0, [])
        scene.turns(3, has_read=DEAF)
        assert (scene.hearing.is_deaf, scene.hearing.stalls, scene.hearing.stalled_at) == (True, 1, 100.0 + limits.CONTROL_MUTE_TURNS)
        scene.turns(2, has_read=HEARS)
        assert not scene.hearing.is_deaf
        scene.turns(limits.CONTROL_MUTE_TURNS, has_read=DEAF)
    assert [(line["event"], line["pid"]) for line in log] == [("control_stalled", 7), ("control_resumed", 7), ("control_stalled", 7)]
    assert log[1]["after_s"] == 3.0
    assert scene.hearing.stalls == 2


@pytest.mark.parametrize(("reads", "events"), [(HEARS, []), (DEAF, ["control_stalled"])])
def test_one_that_starts_is_not_told_of_before_it_has_spoken(*, reads: bool, events: list[str]) -> None:
    """It takes seconds on a busy host, and what it is told waits."""
    scene = Scene()
    with capture_logs() as log:
        scene.turns(10, has_read=DEAF, has_spoken=False)
        assert (scene.hearing.is_deaf, scene.hearing.stalls, log) == (True, 0, [])
        scene.turns(1, has_read=reads)
    assert [line["event"] for line in log] == events


def test_the_next_one_begins_anew() -> None:
    """What was told of the one before is over; its hang is counted."""
    scene = Scene()
    with capture_logs() as log:
        scene.turns(5, has_read=DEAF)
        scene.hearing.begin()
        assert not scene.hearing.is_deaf
        scene.turns(1, has_read=HEARS)
    assert [line["event"] for line in log] == ["control_stalled"]
    assert scene.hearing.stalls == 1


def test_each_that_is_given_up_leaves_more_time_to_the_next_and_each_that_reads_less() -> None:
    """Eight minutes at most, half a minute at least."""
    scene, lived = Scene(), []
    for _ in range(6):
        turns = 0
        while not scene.hearing.is_lost:
            scene.turns(1, has_read=DEAF)
            turns += 1
        lived.append(turns - 1)
        scene.hearing.give_up()
        scene.hearing.begin()
    shortest, longest = limits.CONTROL_DEAF_TURNS, limits.CONTROL_DEAF_TURNS_MAX
    assert lived == [min(shortest * 2**number, longest) for number in range(6)]
    scene.turns(longest, has_read=HEARS)
    scene.turns(shortest, has_read=DEAF)
    assert not scene.hearing.is_lost
    scene.turns(1, has_read=DEAF)
    assert scene.hearing.is_lost
