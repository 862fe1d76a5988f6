"""The exception of the package."""

from redirect.errors import RedirectError


def test_it_is_told_apart_from_operating_system_errors() -> None:
    """Who catches it has a message for an operator in hand, not an errno."""
    error = RedirectError("libnftables.so.1 is missing; apt install libnftables1")
    assert not isinstance(error, OSError | RuntimeError)
    assert str(error) == "libnftables.so.1 is missing; apt install libnftables1"
