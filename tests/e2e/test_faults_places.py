"""Places of workers that stand empty while others serve, or before anybody does: nobody waits there for long.

host1 is broken, as in test_faults_sentry.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from nodeagent import limits
from nodeagent.lab import layout
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.settings import edit_config
from tests.e2e.test_faults_sentry import GOOD, HOST, Site, all_in_time, hanging, stop
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def site(make_lab: MakeLab) -> Iterator[Site]:
    """As the module says."""
    with ExitStack() as stack:
        made = Site(make_lab(mode="permissive"), stack)
        made.wait_served()
        yield made


def by_state(site: Site, state: str) -> list[int]:
    """Pids of workers."""
    return [worker["pid"] for worker in look.status(site.lab, HOST)["workers"] if worker["state"] == state]


def one_and_the_spare(site: Site) -> list[int]:
    """Once all is complete: one of those that serve, and who would take its place."""
    eventually(lambda: (len(by_state(site, "serving")), len(by_state(site, "standby"))) == (2, 1), 60, "all are there")
    return [by_state(site, "serving")[0], *by_state(site, "standby")]


def lines(site: Site, event: str) -> int:
    """How many there are in the log."""
    return len(look.log_lines(site.lab, HOST, event))


@contextmanager
def hanging_controls(site: Site) -> Iterator[list[int]]:
    """Each process of control that is started meanwhile hangs at once, until the end; which."""
    before, hung, is_over = site.part("control"), list[int](), threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            with suppress(OSError):  # one that is just ending
                for pid in set(site.part("control")) - {*before, *hung}:
                    os.kill(pid, signal.SIGSTOP)
                    hung.append(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield hung
    finally:
        is_over.set()
        thread.join()
        with hanging(site, hung):
            pass


def test_a_place_that_a_hung_spawner_cannot_fill_keeps_nobody_waiting(site: Site) -> None:
    """The other serves its share, `status` and `check` say so, and the spawner is replaced."""
    ended, spawner, hung = one_and_the_spare(site), site.part("spawner"), lines(site, "spawner_hung")
    with hanging(site, spawner):
        stop(spawner)
        with all_in_time(site, "a worker and the spare end, the spawner hangs"):
            for pid in ended:
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: "stand empty" in site.lab.exec(HOST, "nodeagent", "status").stdout, look.WITHIN_S, "`status` tells")
            assert "stand empty" in site.lab.exec(HOST, "nodeagent", "check").stdout
            eventually(lambda: lines(site, "spawner_hung") > hung, 10 * limits.START_S, "it is replaced")
    site.wait_served()
    one_and_the_spare(site)


def test_nor_does_one_whose_worker_hangs_with_the_spare_and_the_spawner(site: Site) -> None:
    """It is counted from when the worker was heard last."""
    stopped, left = [*one_and_the_spare(site), *site.part("spawner")], lines(site, "place_left")
    with hanging(site, stopped), all_in_time(site, "a worker, the spare and the spawner hang"):
        stop(stopped)
        eventually(lambda: lines(site, "place_left") > left, 10 * limits.LEFT_S, "its sockets leave")
    site.wait_served()
    one_and_the_spare(site)


def test_nor_does_one_that_is_new_after_a_reload_whose_control_hangs(site: Site) -> None:
    """Nobody who could serve there hears policy; those of before serve all."""
    edit_config(site.lab, HOST, {GOOD: "workers = 4"})
    born = lines(site, "worker_started")
    try:
        with hanging_controls(site) as hung, all_in_time(site, "a reload with more workers, control hangs"):
            os.kill(site.supervisor(), signal.SIGHUP)
            eventually(lambda: hung, 10 * limits.SETTLE_S, "the next control")
            eventually(lambda: lines(site, "worker_started") >= born + 4 + limits.SPARES, 10 * limits.START_S, "workers of the next generation")
    finally:
        edit_config(site.lab, HOST, {"workers = 4": GOOD})
    site.wait_served()
    eventually(lambda: len(by_state(site, "serving")) == 4, 60, "all places are served")
    site.lab.reload_agent(HOST)
    site.wait_served()


def test_nobody_waits_for_long_for_an_agent_whose_control_hangs_in_its_start(site: Site) -> None:
    """All were killed, the sentry too; the next agent beats until its workers hear policy, and its own sentry looks after who waits."""
    with hanging_controls(site) as hung, all_in_time(site, "all are killed, the next control hangs"):
        ended = site.ended()
        for pid in site.lab.pids(HOST, layout.AGENT):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not site.lab.pids(HOST, layout.AGENT), look.WITHIN_S, "all are gone")
        site.run_another()
        eventually(lambda: hung, look.WITHIN_S, "control hangs")
        eventually(lambda: site.ended() > ended, 10 * limits.ALIVE_S, "the sentry tells how many it ended")
    eventually(lambda: site.answers() == {"app"}, 60, "who has heard policy makes a beat")
    site.wait_served()
    one_and_the_spare(site)
