"""The clock of one host's agent is set forwards and back, by hours and by years: nothing hangs, it is told, and nothing is restarted."""

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nodeagent.lab import agent, enter, layout
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.certificates import serials
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.settings import restart
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("tunnels_only")

WEB, API = 8080, 8081
NOTICED_S = 50.0  # what is promised is 5 s
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
LINES = 400  # of a log, for five jumps: a loop that spins writes thousands

SetClock = Callable[[str], None]
Call = Callable[[], bool]


@pytest.fixture
def set_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """`set_clock("+25h")`: what host1's supervisor and control take for the time of day. Workers may not read it: theirs is right."""
    with faked(lab, monkeypatch, 0o640) as set_to:
        yield set_to


@pytest.fixture
def set_every_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """As `set_clock`, of workers, too: the whole host's clock is wrong."""
    with faked(lab, monkeypatch, 0o644) as set_to:
        yield set_to


@contextmanager
def faked(lab: Lab, monkeypatch: pytest.MonkeyPatch, mode: int) -> Iterator[SetClock]:
    """The agent of host1 with a clock that is a file of this mode: whoever may not read it has the right time."""
    path = lab.host("host1").own("etc") / "clock"

    def set_to(offset: str) -> None:
        before = path.with_suffix(".new")
        before.write_text(f"{offset}\n")
        os.chown(before, 0, layout.CONTROL_UID)
        before.chmod(mode)
        before.rename(path)

    set_to("+0")
    plain = enter.service_environment
    environment = {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": "/etc/nodeagent/clock", "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    monkeypatch.setattr(enter, "service_environment", lambda: plain() | environment)
    restart(lab, "host1")
    try:
        yield set_to
    finally:
        monkeypatch.undo()
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
        eventually(lambda: answers(shop, address, b"hello"), NOTICED_S, "a call")
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


@contextmanager
def both_ways(lab: Lab) -> Iterator[tuple[Call, Call]]:
    """Two calls: of shop on host1 to web on host2, and of cli on host2 to api on host1. Each tells whether it was answered."""
    with ExitStack() as stack:
        ways = []
        for caller, here, callee, there, port in (("shop", "host1", "web", "host2", WEB), ("cli", "host2", "api", "host1", API)):
            lab.register(there, callee, port)
            look.allow(lab, caller, callee)
            stack.enter_context(Echo(stack.enter_context(Unit(lab, there, callee)).listen("::", port)))
            unit = stack.enter_context(Unit(lab, here, caller))
            ways.append(functools.partial(answers, unit, (lab.host(there).ipv4, port), b"hello"))
        yield ways[0], ways[1]


def problems(lab: Lab) -> str:
    """What `status` calls problems on host1; while nobody answers, nothing."""
    done = lab.exec("host1", "nodeagent", "status", "-o", "json")
    return " | ".join(json.loads(done.stdout)["problems"]) if done.stdout else ""


def errors(lab: Lab, known: int) -> str:
    """Why connections on host1 were refused, after so many lines."""
    return " | ".join(line.get("error", "") for line in look.log_lines(lab, "host1")[known:])


WRONG = {
    "-25h": ("25.0 h behind the catalog's", "this host's clock is behind"),
    "+25h": ("25.0 h ahead of the catalog's", "are the clocks of this host and of the CA right?"),
}
"""How wrong -> what `status` says of it, and what a refused call's reason does."""


def test_a_host_whose_clock_is_wrong_says_so_and_is_well_when_it_is_right(lab: Lab, set_every_clock: SetClock) -> None:
    """All its processes take the same wrong time: calls to it and from it are refused, and none of it needs a restart."""
    with both_ways(lab) as (call, call_back):
        eventually(lambda: call() and call_back(), NOTICED_S, "calls")
        before = lab.pids("host1", layout.AGENT)
        for offset, (problem, reason) in WRONG.items():
            known = len(look.log_lines(lab, "host1"))
            set_every_clock(offset)
            eventually(lambda told=problem: told in problems(lab), NOTICED_S, f"status says {problem}")
            restart(lab, "host2")  # no tunnel is open from before: such ones go on
            assert (call(), call_back()) == (False, False)
            eventually(lambda told=reason, n=known: not call() and told in errors(lab, n), NOTICED_S, f"a refusal says {reason}")
            set_every_clock("+0")
            eventually(lambda: look.status(lab, "host1")["healthy"], NOTICED_S, f"healthy after {offset}")
            eventually(lambda: call() and call_back(), NOTICED_S, f"calls after {offset}")
        assert lab.pids("host1", layout.AGENT) == before


def test_an_agent_that_starts_with_a_wrong_clock_says_so(lab: Lab, set_every_clock: SetClock) -> None:
    """Not even the catalog's certificate is valid by it, where that is younger."""
    lab.stop_agent("host1")
    set_every_clock("-25h")
    agent.start_agent(lab.host("host1"), lab.state.holder(lab.host("host1")))
    eventually(lambda: "is this host's clock right" in problems(lab), NOTICED_S, "status names the clock")
    set_every_clock("+0")
    eventually(lambda: look.status(lab, "host1")["healthy"], NOTICED_S, "healthy without a restart")
