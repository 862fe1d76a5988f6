"""The clock of one host's agent is set forwards and back, by hours and by years: nothing hangs, and nothing is restarted."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodeagent.lab import enter, layout
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.certificates import serials
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.settings import restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
NOTICED_S = 50.0  # what is promised is 5 s
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
LINES = 400  # of a log, for five jumps: a loop that spins writes thousands

SetClock = Callable[[str], None]


@pytest.fixture
def set_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """`set_clock("+25h")`: what host1's supervisor and control take for the time of day. Workers may not read it: theirs is right."""
    path = lab.host("host1").own("etc") / "clock"

    def set_to(offset: str) -> None:
        before = path.with_suffix(".new")
        before.write_text(f"{offset}\n")
        os.chown(before, 0, layout.CONTROL_UID)
        before.chmod(0o640)
        before.rename(path)

    set_to("+0")
    plain = enter.service_environment
    faked = {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": "/etc/nodeagent/clock", "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    monkeypatch.setattr(enter, "service_environment", lambda: plain() | faked)
    restart(lab, "host1")
    monkeypatch.undo()
    yield set_to
    restart(lab, "host1")
    path.unlink()


def jumps(lab: Lab) -> int:
    """How often host1's agent noticed that its clock was set."""
    return len(look.log_lines(lab, "host1", "clock_jumped"))


def test_a_clock_that_is_set_costs_at_most_new_tunnels_until_it_is_right_again(lab: Lab, set_clock: SetClock) -> None:
    """Backwards all goes on. Past the end of its certificate a host is closed, says that clocks differ, and comes back."""
    lab.register("host2", "web", WEB)
    look.allow(lab, "shop", "web")
    address = (lab.host("host2").ipv4, WEB)
    with Unit(lab, "host2", "web") as web, Echo(web.listen("::", WEB)), Unit(lab, "host1", "shop") as shop:
        assert answers(shop, address, b"hello")
        with shop.connect(*address) as old:
            for offset in ("-1h", "-10y"):
                before, known = serials(lab, "host1"), jumps(lab)
                set_clock(offset)
                eventually(lambda seen=known: jumps(lab) > seen, NOTICED_S, offset)
                assert answers(shop, address, b"hello")
                assert serials(lab, "host1") == before
                set_clock("+0")
                eventually(lambda seen=known: jumps(lab) > seen + 1, NOTICED_S, f"back from {offset}")
                eventually(lambda: look.status(lab, "host1")["healthy"], NOTICED_S, f"healthy after {offset}")
            for offset, cause in (("+25h", "are the clocks of this host and of the CA right?"), ("+10y", "expired")):
                set_clock(offset)
                told = eventually(lambda why=cause: complaint(lab, why), NOTICED_S, f"it says that {cause}")
                assert "has expired" in told
                assert not answers(shop, address, b"hello")
                assert speaks(old), "what is open goes on"
                set_clock("+0")
                eventually(lambda: answers(shop, address, b"hello"), NOTICED_S, f"calls after {offset}")
                eventually(lambda: look.status(lab, "host1")["healthy"], NOTICED_S, f"healthy after {offset}")
            assert speaks(old)
    text = lab.host("host1").log("nodeagent").read_text()
    assert "Traceback" not in text
    assert len(text.splitlines()) < LINES


def complaint(lab: Lab, cause: str) -> str:
    """What `status` says about the lack of a certificate for shop, once it names the cause."""
    problems = look.status(lab, "host1")["problems"]
    return next((each for each in problems if each.startswith("no certificate for shop") and cause in each), "")
