"""What is done without a control process. That one is started, heard and replaced is tried for real in tests/e2e."""

import asyncio
from pathlib import Path

import pytest

from nodeagent.errors import FrameError
from nodeagent.process.capture import Capture
from nodeagent.process.control_process import ControlProcess, _capture_in
from nodeagent.process.privileges import User
from nodeagent.wire.frames import CaptureFrame, Records, SupervisorStats
from tests.support.loop import run


def test_control_may_say_one_thing_only() -> None:
    """Anything else is somebody who speaks in its place."""
    assert _capture_in(CaptureFrame(["10.0.0.1", "127.0.0.1"], [80])) == Capture(("10.0.0.1",), (80,), ("address '127.0.0.1'",))
    with pytest.raises(FrameError, match="Records, which is not control's to send"):
        _capture_in(Records([]))


def test_while_control_is_down_nothing_waits_for_it() -> None:
    """Figures are dropped; to stop what does not run takes no time."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        control = ControlProcess(loop, Path("x.toml"), User(64901, 64901), {}, list, lambda _capture: None)
        assert control.pid == 0
        control.tell(SupervisorStats(1, "0", 0.0, "off", "", 0, 0, []))
        await control.stop()
        control.start()
        assert control.pid == 0

    run(scene)
