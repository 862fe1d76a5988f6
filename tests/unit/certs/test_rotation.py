"""Renewal: at half life, spread by chance, and never with an expired SVID in use."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.rotation import REROOT_S, Expired, Keep, Renew, next_step, reroot_after_s
from certs.spiffe import parse_spiffe_id
from certs.svid import Svid
from tests.unit.certs.minting import NOW, WEB

DAY = timedelta(hours=24)
SVID = Svid(parse_spiffe_id(WEB), "01", NOW, NOW + DAY, "", "")
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("svid", "after", "draw", "step"),
    [
        (None, 0 * HOUR, 0.0, Renew()),
        (SVID, 0 * HOUR, 0.0, Keep(NOW + 12 * HOUR)),
        (SVID, 12 * HOUR - SECOND, 0.0, Keep(NOW + 12 * HOUR)),
        (SVID, 12 * HOUR, 0.0, Renew()),
        (SVID, 12 * HOUR, 0.5, Keep(NOW + 13.2 * HOUR)),
        (SVID, 24 * HOUR, 0.0, Renew()),
        (SVID, 24 * HOUR + SECOND, 0.0, Expired()),
        (SVID, -HOUR, 0.0, Keep(NOW)),
    ],
)
def test_step(svid, after, draw, step):
    assert next_step(svid, NOW + after, draw) == step


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 86_400))
def test_renewal_is_asked_for_between_half_life_and_the_end(draw, seconds):
    step = next_step(SVID, NOW + timedelta(seconds=seconds), draw)
    assert isinstance(step, Keep | Renew)
    if isinstance(step, Keep):
        assert NOW + 12 * HOUR <= step.until <= NOW + 14.4 * HOUR


@pytest.mark.parametrize(
    ("life", "draw", "seconds"), [(DAY, 0.0, 0.0), (DAY, 0.5, 30.0), (20 * SECOND, 0.5, 1.0), (4 * SECOND, 0.999, 0.3996)]
)
def test_another_root_s_turn_comes_soon_and_not_for_all_at_once(life, draw, seconds):
    assert reroot_after_s(Svid(parse_spiffe_id(WEB), "01", NOW, NOW + life, "", ""), draw) == pytest.approx(seconds)


def test_the_turn_for_another_root_comes_within_a_bound():
    """However long the certificate lives."""
    long = Svid(parse_spiffe_id(WEB), "01", NOW, NOW + 365 * DAY, "", "")
    assert reroot_after_s(long, 1.0) == REROOT_S


@pytest.mark.parametrize(
    ("jump", "step"),
    [
        (HOUR, Keep(NOW + 12 * HOUR)),
        (-HOUR, Keep(NOW)),
        (10 * 365 * DAY, Expired()),
        (-10 * 365 * DAY, Keep(NOW)),
    ],
)
def test_a_clock_that_jumps_keeps_what_is_valid_and_ends_what_is_not(jump, step):
    """Backwards nothing ends; forwards what has ended by the new time."""
    assert next_step(SVID, NOW + jump, 0.0) == step
