"""The worker process's own few lines: what it complains about."""

import asyncio

import pytest

from nodeagent.process.worker import _complain


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ConnectionResetError("gone"), False),
        (ConnectionResetError, False),
        (TimeoutError(), False),
        (PermissionError("the filter said no"), True),
        (KeyError("defect"), True),
        (None, True),
    ],
)
def test_peers_that_vanish_are_daily_life_and_all_else_is_told(
    error: object, caplog: pytest.LogCaptureFixture, *, is_told: bool
) -> None:
    """A system call that the filter refused, or a defect, must be seen."""
    loop = asyncio.new_event_loop()
    _complain(loop, {"message": "something nobody awaited", "exception": error} if error else {"message": "odd"})
    loop.close()
    assert bool(caplog.records) == is_told
