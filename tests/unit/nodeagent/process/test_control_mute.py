"""When workers can hear nothing of control: who knows no policy is not to wait for it then."""

import os
import signal

import pytest

from nodeagent import limits
from nodeagent.process.control_process import ControlProcess
from nodeagent.wire.frames import CaptureFrame, Message, NoSnapshot
from tests.support.loop import until
from tests.unit.nodeagent.process.test_control_process import FIGURES, Start, play


@pytest.mark.parametrize("word", [NoSnapshot(), CaptureFrame([], [])])
def test_control_is_mute_until_its_first_word_and_while_it_reads_nothing(word: Message) -> None:
    """Also where it has no policy: that is heard of one that lives. Its successor begins as it did."""
    start = Start()

    async def script(control: ControlProcess) -> None:
        assert control.is_mute
        control.start()
        assert control.is_mute
        start.say(word)
        await until(lambda: not control.is_mute, "the word is heard")
        for _ in range(limits.CONTROL_MUTE_TURNS):  # in the first turn nothing is unread
            control.tell(FIGURES)
            assert not control.is_mute
        control.tell(FIGURES)
        assert control.is_mute
        os.read(start._channels[-1], 100_000)
        control.tell(FIGURES)
        assert not control.is_mute
        pid = control.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: control.pid not in (0, pid), "another one runs")
        assert control.is_mute

    play(script, start)
    assert limits.CONTROL_MUTE_TURNS * limits.STATS_S + limits.STATS_S < limits.HUNG_S, "it is known before workers are replaced"
