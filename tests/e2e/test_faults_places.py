"""Places of workers that stand empty while others serve, or before anybody does: nobody waits there for long.

host1 is broken, as in test_faults_sentry.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from nodeagent import limits
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.test_faults_sentry import HOST, Site, all_in_time, hanging, stop
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
    one_and_the_spare(site)
    site.wait_served()


def test_nor_does_one_whose_worker_hangs_with_the_spare_and_the_spawner(site: Site) -> None:
    """It is counted from when the worker was heard last."""
    stopped, left = [*one_and_the_spare(site), *site.part("spawner")], lines(site, "place_left")
    with hanging(site, stopped), all_in_time(site, "a worker, the spare and the spawner hang"):
        stop(stopped)
        eventually(lambda: lines(site, "place_left") > left, 10 * limits.LEFT_S, "its sockets leave")
    one_and_the_spare(site)
    site.wait_served()
