"""What a service can be called."""

import pytest

from nodeagent.model.service import is_service_name


@pytest.mark.parametrize("name", ["a", "web", "Web-2", "a.b_c", "9", "a" * 128])
def test_names_that_every_place_can_carry_are_taken(name: str) -> None:
    """SNI, SPIFFE path and unit name."""
    assert is_service_name(name)


@pytest.mark.parametrize("name", ["", "*", ".", "-a", "a-", "a b", "a/b", "a\n", "web@1", "\u0430", "a" * 129])
def test_other_names_are_not(name: str) -> None:
    """A wildcard, a path, a newline or a look-alike is nobody's name."""
    assert not is_service_name(name)
