"""Renewal: at half life, spread by chance, and never with an expired SVID in use."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.rotation import Expired, Keep, Renew, next_step
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
