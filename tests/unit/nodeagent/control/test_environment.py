"""Time and chance of the real machine."""

from nodeagent.control.environment import real_environment


def test_the_clock_does_not_go_back_and_the_dice_stay_in_range() -> None:
    env = real_environment()
    first = env.now()
    assert first > 1_700_000_000
    assert env.now() >= first
    assert all(0 <= env.draw() < 1 for _ in range(100))
