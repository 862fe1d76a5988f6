"""What a service can be called."""

import pytest

from nodeagent.model.names import is_service_name, name_complaint


@pytest.mark.parametrize("name", ["a", "web", "web-2", "a.b_c", "9", "a" * 128])
def test_names_that_every_place_can_carry_are_taken(name: str) -> None:
    """SNI, SPIFFE path and unit name."""
    assert is_service_name(name)


@pytest.mark.parametrize("name", ["", "*", ".", "Web", "web-B", "-a", "a-", "a b", "a/b", "a\n", "web@1", "\u0430", "a" * 129])
def test_other_names_are_not(name: str) -> None:
    """A wildcard, a path, a newline or a look-alike is nobody's name."""
    assert not is_service_name(name)


def test_a_refusal_has_a_cure() -> None:
    """The lower-case spelling where that is all; the rule everywhere."""
    assert name_complaint("Web").endswith("128 at most; call it web")
    assert name_complaint("a b", "a host") == "'a b' cannot name a host: use lower-case letters, digits, and inner - . _, 128 at most"
    assert len(name_complaint("x" * 10_000)) < 400
