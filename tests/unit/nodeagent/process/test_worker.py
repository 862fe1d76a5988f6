"""The worker process's own few lines: what it complains about."""

import asyncio
import os

import pytest

from nodeagent import limits
from nodeagent.process.worker import _complain
from tests.support.twohosts import TwoHosts, run


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ConnectionResetError("gone"), False),
        (ConnectionResetError, False),
        (TimeoutError(), False),
        (PermissionError("the filter said no"), True),
        (KeyError("defect"), True),
        (RuntimeError("defect"), True),
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


@pytest.mark.parametrize("is_ending", [False, True])
def test_a_peer_that_talks_on_after_its_end_is_no_defect(caplog: pytest.LogCaptureFixture, *, is_ending: bool) -> None:
    """TLS has ended, by the peer alone or by both; what comes behind it is more than the TLS library's buffer holds."""

    async def work() -> None:
        async with TwoHosts() as hosts:
            loop, complaints = asyncio.get_running_loop(), []
            loop.set_exception_handler(lambda loop, context: (complaints.append(context), _complain(loop, context)))
            await hosts.call()
            (ours,), (theirs,) = hosts.one.live.tunnels, hosts.two.live.tunnels
            if is_ending:
                theirs.transport.close()
            ours.transport.close()
            os.write(ours.transport.get_extra_info("socket").fileno(), bytes(4 * limits.TLS_BIO_BYTES))
            await hosts.two.live.is_quiet.wait()
            assert complaints, "the library complains indeed"
            assert not caplog.records

    run(work)
