"""How the numbers that bound HTTP stand to each other, and to those beside them."""

from math import isqrt

from nodeagent import limits, limits_http


def test_they_are_read_as_all_others() -> None:
    """One namespace, whatever file a number stands in."""
    names = [name for name in vars(limits_http) if name.isupper()]
    assert names
    assert all(getattr(limits, name) is getattr(limits_http, name) for name in names)


def test_they_fit_each_other() -> None:
    """What is least is less than what is most."""
    assert limits.RETRY_BASE_S < limits.RETRY_MAX_S
    assert limits.EJECT_INTERVAL_S < limits.EJECT_S < limits.EJECT_MAX_S
    assert limits.RING_POINTS_MIN < limits.RING_POINTS_MAX
    assert limits.POLICY_HOPS < limits.CHAIN_LEGS


def test_tables_of_hashes_have_a_prime_number_of_places() -> None:
    """Else an instance's own order does not come to all of them."""
    assert list(limits.MAGLEV_SIZES) == sorted(limits.MAGLEV_SIZES)
    assert all(size % each for size in limits.MAGLEV_SIZES for each in range(2, isqrt(size) + 1))
