"""Faults that come together where the supervisor is gone, hangs, or becomes another program: nobody waits for long.

host1 is broken. Its `shop` calls host2; the hub calls it in clear.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.lab import agent, layout
from nodeagent.lab.lab import Lab
from nodeagent.process import handover
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.restless_callers import Met, Place, RestlessCallers
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(600)
HOST = "host1"
SILENT_S, TRIES = 5.0, 9
SENTRY = "nodeagent-sentr"
OWN, FAR = 8001, 8002
GOOD = "workers = 2"
_EXPIRES = re.compile(r"expires (?:(\d+)s)?(?:(\d+)ms)?")


class Site:
    """The lab, and who calls what by way of the agent of HOST. Owned by the module."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab, self.place, far = lab, lab.host(HOST), lab.host("host2")
        stack.enter_context(App(lab, HOST, "own", OWN))
        stack.enter_context(App(lab, "host2", "far", FAR))
        look.allow(lab, "shop", "far")
        shop, stranger = stack.enter_context(Unit(lab, HOST, "shop")), stack.enter_context(Unit(lab, "hub"))
        self.places = [Place(shop, address, FAR) for address in (far.ipv4, far.ipv6)]
        self.places += [Place(stranger, address, OWN) for address in (self.place.ipv4, self.place.ipv6)]

    def sentries(self) -> list[int]:
        """Their pids."""
        return [pid for pid in self.lab.pids(HOST, layout.AGENT) if look.comm(pid) == SENTRY]

    def named(self, name: str) -> list[int]:
        """Those whose name begins so, the oldest first."""
        return sorted(pid for pid in self.lab.pids(HOST, layout.AGENT) if look.comm(pid).startswith(name))

    def part(self, name: str) -> list[int]:
        """That of control or the spawner."""
        if name == "spawner":
            return self.named("nodeagent-spawn")
        return [pid for pid in self.lab.pids(HOST, layout.AGENT) if b"nodeagent.control" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def answers(self) -> set[str]:
        """What each place meets."""
        with RestlessCallers(self.places) as callers:
            eventually(lambda: len(callers._calls) >= len(self.places), 20, "a call of each")
        return {each.answer for each in callers.met()}

    def sentry(self) -> int:
        """The only one, once it is."""
        eventually(lambda: len(self.sentries()) == 1, 10 * limits.ALIVE_S, "one sentry")
        return self.sentries()[0]

    def supervisor(self) -> int:
        """The pid of the youngest one."""
        pids = [pid for pid in self.lab.pids(HOST, layout.AGENT) if look.comm(pid) == "nodeagent"]
        return max(pids, key=lambda pid: Path(f"/proc/{pid}").stat().st_ctime_ns, default=0)

    def kill_supervisor(self) -> None:
        """SIGKILL; returns when it is gone."""
        pid = agent.try_supervisor(self.place)
        assert pid
        agent._end(pid, signal.SIGKILL)

    def run_another(self) -> None:
        """As systemd does, with what was stored; waits for nothing."""
        agent._run(self.place, self.lab.state.holder(self.place))

    def holds_s(self) -> float:
        """For how long the switch holds; 0: it has fallen."""
        shown = self.lab.exec(HOST, "nft", "list", "set", "inet", "nodeagent", "alive").stdout
        found = _EXPIRES.search(shown)
        return int(found[1] or 0) + int(found[2] or 0) / 1000 if found else 0.0

    def wait_fallen(self) -> None:
        """Until the switch has."""
        eventually(lambda: self.holds_s() == 0, 10 * limits.ALIVE_S, "the switch has fallen")

    def wait_served(self) -> None:
        """All is well again, and there is one sentry, none of `before`."""
        agent.wait_healthy([self.place], print)
        with RestlessCallers(self.places) as callers:
            eventually(lambda: len(callers._calls) > len(self.places), 20, "some calls")
        assert {each.answer for each in callers.met()} == {"app"}

    def ended(self) -> int:
        """How many callers sentries have ended so far."""
        log = self.place.log(layout.AGENT).read_text().splitlines()  # a refused file's line is no JSON
        return sum(json.loads(line)["number"] for line in log if '"event":"unaccepted_ended"' in line)

    def knowing(self) -> list[int]:
        """The pids of workers that know policy, once these are the two that serve and the spare."""

        def pids() -> list[int]:
            return sorted(worker["pid"] for worker in look.status(self.lab, HOST)["workers"] if worker["generation"])

        eventually(lambda: len(pids()) == 3, look.WITHIN_S, "all know policy")
        return pids()

    def supervisor_part(self) -> dict[str, Any]:
        """What `status` says of the supervisor."""
        part: dict[str, Any] = look.status(self.lab, HOST)["supervisor"]
        return part

    def stalls(self) -> int:
        """How often supervisors have seen so far that control reads nothing. It is not there to be asked then."""
        return self.place.log(layout.AGENT).read_text().count('"event":"control_stalled"')


@pytest.fixture(scope="module")
def site(make_lab: MakeLab) -> Iterator[Site]:
    """As the module says."""
    lab = make_lab(mode="permissive")
    with ExitStack() as stack:
        made = Site(lab, stack)
        made.wait_served()
        yield made


@contextmanager
def all_in_time(site: Site, what: str) -> Iterator[None]:
    """Callers all the while; none waits longer than promised, and some were reset."""
    with RestlessCallers(site.places) as callers:
        yield
    met = callers.met()
    print(f"{what}: {summary(met)}")
    assert [each for each in met if each.waited_s >= SILENT_S] == []
    assert {each.answer for each in met} <= {"app", "reset", "refused", "closed"}


def summary(met: list[Met]) -> str:
    """How many calls met what, and the slowest."""
    answers = [each.answer for each in met]
    counts = ", ".join(f"{answers.count(answer)} {answer}" for answer in sorted(set(answers)))
    return f"{len(met)} calls, {counts}; the slowest waited {max(each.waited_s for each in met):.2f} s"


def test_a_file_that_no_supervisor_starts_with_and_a_crash(site: Site) -> None:
    """It is started again and again, in vain, until somebody mends the file."""
    old = site.sentry()
    edit_config(site.lab, HOST, {GOOD: "workers = nonsense"})
    try:
        with all_in_time(site, "bad file, crash"):
            site.kill_supervisor()
            while site.holds_s():
                site.run_another()
                eventually(lambda: not site.supervisor(), look.WITHIN_S, "it has ended")
            assert site.sentries() == [old]
            eventually(lambda: not agent.is_running(site.place), 60, "all but the sentry have ended")
    finally:
        edit_config(site.lab, HOST, {"workers = nonsense": GOOD})
        site.run_another()
    site.wait_served()
    assert site.sentry() != old


def test_the_next_supervisor_hangs_in_its_start(site: Site) -> None:
    """When it has said a beat for those who wait for it, and does not come to serve them."""
    old, before = site.sentry(), site.lab.pids(HOST, layout.AGENT)
    ended = site.ended()
    hung: list[int] = []
    try:
        with all_in_time(site, "crash, the next hangs in its start"):
            site.kill_supervisor()
            held_s = site.holds_s()
            site.run_another()
            eventually(lambda: site.holds_s() > held_s, look.WITHIN_S, "its first beat")
            hung += [pid for pid in site.lab.pids(HOST, layout.AGENT) if pid not in before]
            stop(hung)
            assert old in site.sentries()
            site.wait_fallen()
        eventually(lambda: site.ended() > ended, look.WITHIN_S, "it tells how many it ended")
    finally:
        tell(hung, signal.SIGKILL)
    site.run_another()
    site.wait_served()
    assert site.sentry() != old


def test_all_hang_within_a_reload(site: Site) -> None:
    """But for the sentry of before: the next program has none yet, and the switch holds for long."""
    old, supervisor = site.sentry(), site.supervisor()
    os.kill(supervisor, signal.SIGHUP)
    eventually_at_once(lambda: f"{handover.VARIABLE}=".encode() in Path(f"/proc/{supervisor}/environ").read_bytes(), "the next program")
    hung = [pid for pid in site.lab.pids(HOST, layout.AGENT) if pid != old]
    stop(hung)
    try:
        assert site.sentries() == [old]
        assert site.holds_s() > limits.ALIVE_S
        with all_in_time(site, "all but the sentry hang in a reload"):
            site.wait_fallen()
    finally:
        tell(hung, signal.SIGCONT)
    site.wait_served()
    assert site.sentry() != old


@pytest.mark.parametrize("also", ["spawner", "control"])
def test_workers_hang_and_nobody_can_take_their_places(site: Site, also: str) -> None:
    """Nobody bears them, or they hear no policy and would refuse all: the switch falls, though the supervisor lives."""
    with hanging(site, [*site.named("nodeagent-w"), *site.part(also)]) as hung, all_in_time(site, f"workers and {also} hang"):
        eventually_at_once(lambda: site.holds_s() > limits.ALIVE_S - 0.2, "a beat: who comes after it waits longest")
        stop(hung)
        site.wait_fallen()
    eventually(lambda: site.answers() == {"app"}, 60, "who has heard policy makes a beat")
    site.wait_served()


def test_who_knows_no_policy_takes_nothing_from_who_does(site: Site) -> None:
    """While control hangs, and workers and then the spare end, one is left that knows."""
    control, left, stalls = site.part("control"), site.knowing(), site.stalls()
    told, began = site.supervisor_part()["control_stalls"], time.time()
    with hanging(site, control):
        stop(control)
        eventually(lambda: site.stalls() > stalls, 10 * limits.HUNG_S, "its supervisor knows")
        leave_last(site, left)
    site.wait_served()
    eventually(lambda: (part := site.supervisor_part())["control_stalls"] > told and part["control_stalled_at"] > began, look.WITHIN_S, "`status` tells")


def test_nor_where_control_comes_back_and_has_none(site: Site) -> None:
    """The catalog is away, and nothing was saved. When policy is heard again, all places are taken."""
    (control,), left = site.part("control"), site.knowing()
    site.lab.stop_catalog()
    try:
        site.lab.exec(HOST, "rm", "/var/lib/nodeagent/snapshot")
        os.kill(control, signal.SIGKILL)
        eventually(lambda: "nothing heard yet" in site.lab.exec(HOST, "nodeagent", "status").stdout, 60, "another, without policy")
        leave_last(site, left)
    finally:
        site.lab.start_catalog()
    site.wait_served()
    eventually(lambda: [each["state"] for each in look.status(site.lab, HOST)["workers"]].count("serving") == 2, look.WITHIN_S, "both places are taken")


def leave_last(site: Site, left: list[int]) -> None:
    """Ends all of them but the last, one after another: that one serves all."""
    for pid in left[:-1]:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda gone=pid: gone not in site.named("nodeagent-w"), look.WITHIN_S, "its end")
    eventually(lambda: site.answers() == {"app"}, look.WITHIN_S, "its share is the other's")
    for _ in range(TRIES):
        assert site.answers() == {"app"}


@contextmanager
def hanging(site: Site, pids: list[int]) -> Iterator[list[int]]:
    """Those of them that are left go on afterwards."""
    try:
        yield pids
    finally:
        for pid in set(pids) & set(site.lab.pids(HOST, layout.AGENT)):
            os.kill(pid, signal.SIGCONT)


def stop(pids: list[int]) -> None:
    """SIGSTOP; returns when none of them runs any more. A helper of a start may have ended meanwhile, or hold who forked it in D."""
    tell(pids, signal.SIGSTOP)
    eventually(lambda: all(look.comm(pid) == "" or look.state(pid) in "TZD" for pid in pids), look.WITHIN_S, "all of them hang")


def tell(pids: list[int], number: signal.Signals) -> None:
    """Those that are left."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def eventually_at_once(fact: Callable[[], object], what: str) -> None:
    """As `eventually`, for what does not last."""
    end = time.monotonic() + 10 * limits.SETTLE_S
    while not fact():
        assert time.monotonic() < end, what
        time.sleep(0.001)


@pytest.mark.parametrize("replace", [Lab.crash_agent, Lab.restart_agent, Lab.reload_agent])
def test_where_another_serves_in_time_nobody_is_reset(site: Site, replace: Callable[[Lab, str], None]) -> None:
    """What a machine that was slower shows proves nothing, and another round is made. One sentry is left each time."""
    for _ in range(TRIES):
        old, ended, began = site.sentry(), site.ended(), time.monotonic()
        with RestlessCallers(site.places) as callers:
            replace(site.lab, HOST)
            seconds = time.monotonic() - began
        met = callers.met()
        print(f"{replace.__name__} in {seconds:.2f} s: {summary(met)}")
        assert site.sentry() != old
        if {each.answer for each in met} == {"app"}:
            assert site.ended() == ended
            return
        assert seconds >= limits.SENTRY_ALONE_PATIENCE_S
    pytest.fail("no agent was there again in time")


def test_a_host_without_a_sentry_says_so(site: Site) -> None:
    """One that ends again and again is not started at once; afterwards all is well again."""

    def is_missed() -> bool:
        for pid in site.sentries():
            os.kill(pid, signal.SIGKILL)
        done = site.lab.exec(HOST, "nodeagent", "status")
        return done.returncode != 0 and "no sentry watches" in done.stdout

    eventually(is_missed, 60, "it is a problem")
    agent.wait_healthy([site.place], print)


def test_a_stop_leaves_nobody_also_where_the_supervisor_is_gone(site: Site) -> None:
    """Then there is nobody to drain, and nobody is waited for."""
    site.lab.stop_agent(HOST)
    assert site.lab.pids(HOST, layout.AGENT) == ()
    site.lab.start_agent(HOST)
    site.kill_supervisor()
    eventually(lambda: not agent.is_running(site.place), 60, "all but the sentry have ended")
    assert site.sentries()
    said: list[str] = []
    agent.stop_agent(site.place, said.append)
    assert (site.lab.pids(HOST, layout.AGENT), said) == ((), [])
    site.lab.start_agent(HOST)
    assert site.sentry()
