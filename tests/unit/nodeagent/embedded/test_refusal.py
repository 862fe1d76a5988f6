"""Refusals: each has a status of its own kind."""

import pytest

from nodeagent.embedded import refusal


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("BadRequest", 400), ("Forbidden", 403), ("NotFound", 404), ("TooLarge", 413), ("TooMany", 429),
        ("StorageFailed", 500), ("Missing", 501),
    ],
)  # fmt: skip
def test_status(name, status):
    kind = getattr(refusal, name)
    assert issubclass(kind, refusal.Refusal)
    assert kind("x").status == status
