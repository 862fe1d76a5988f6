"""Workers that a crash or restart has left are the next supervisor's: they hear denies, and what they carry is shown."""

import os
import re
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from nodeagent import limits
from nodeagent.lab import agent, fd_store
from nodeagent.lab.lab import Lab
from nodeagent.process.lifeline import try_holder
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call, heard, say
from tests.e2e.support.mesh import with_spare
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.e2e.support.upgrades import generations
from tests.e2e.support.waiting import wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("tunnels_only")]
WEB, CART = 8080, 7000
ALLOWED = {("shop", "web"): "allow", ("shop", "cart"): "allow"}
Replace = Callable[[Lab, str], None]
_OPEN = re.compile(r'^nodeagent_open_connections\{worker="(\d+)"\} (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def lab_of_all(make_lab: MakeLab) -> Iterator[Lab]:
    """`web` on host2, `cart` on host1."""
    lab = make_lab()
    with App(lab, "host2", "web", WEB), App(lab, "host1", "cart", CART):
        yield lab


@pytest.fixture
def mesh(lab_of_all: Lab) -> Lab:
    """`shop` may call both."""
    set_intentions(lab_of_all, ALLOWED)
    return lab_of_all


def ids(lab: Lab, host: str) -> list[str]:
    """Of the open connections."""
    return sorted(row["id"] for row in look.open_rows(lab, host))


def lifelines(lab: Lab, host: str) -> dict[str, int]:
    """The names of those that are kept, and whose they are."""
    names, descriptors = fd_store._fetch(lab.host(host).directory / fd_store.HELD)
    for fd in descriptors:
        os.close(fd)
    return {name: holder.pid for name in names if (holder := try_holder(name))}


def are_alone(lab: Lab, host: str) -> bool:
    """Whether two serve, one waits, and only their lifelines are kept."""
    workers = with_spare(lab, host)
    is_whole = sorted(worker.state for worker in workers) == ["serving", "serving", "standby"]
    return is_whole and sorted(lifelines(lab, host).values()) == sorted(worker.pid for worker in workers)


@pytest.mark.parametrize(
    "replacements",
    [(Lab.crash_agent,), (Lab.restart_agent,), (Lab.crash_agent, Lab.crash_agent), (Lab.restart_agent, Lab.reload_agent, Lab.crash_agent),
     (Lab.reload_agent, Lab.crash_agent, Lab.restart_agent)],
    ids=lambda steps: "-".join(step.__name__.removesuffix("_agent") for step in steps),
)  # fmt: skip
@pytest.mark.parametrize(("host", "to"), [("host1", "cart"), ("host2", "web")])
def test_a_deny_reaches_what_was_open_before(mesh: Lab, host: str, to: str, replacements: tuple[Replace, ...]) -> None:
    """However often the supervisor was replaced: listed by its id, counted, and cut with its reason in the log."""
    port = {"cart": CART, "web": WEB}[to]
    with Unit(mesh, "host1", "shop") as shop, closing(shop.connect(mesh.host(host).ipv4, port)) as sock:
        assert say(sock, "hello") == "app:hello"
        before = ids(mesh, host)
        (carrier,) = look.carriers(mesh, host).values()
        for replace in replacements:
            replace(mesh, host)
            assert say(sock, "still") == "app:still"
        assert ids(mesh, host) == before
        wait_until(lambda: [part["connections"] for part in generations(mesh, host)[1:]] == [1], "what is left is shown")
        young, old = generations(mesh, host)
        assert young["generation"] > old["generation"]
        assert time.time() < old["drain_until"] <= time.time() + limits.DRAIN_MAX_S
        assert carrier in lifelines(mesh, host).values()
        assert sum(scraped(mesh, host).values()) == 1
        cut = len(look.with_facts(mesh, host, reason="policy_changed", destination=to))
        look.decide(mesh, "deny", "shop", to)
        assert heard(sock) == "reset"
        (line,) = look.closed(mesh, host, cut + 1, reason="policy_changed", destination=to)[cut:]
        assert [line["id"]] == before
    wait_until(lambda: are_alone(mesh, host), "whoever carried it has ended, and nothing of it is kept", deadline_s=60, every_s=0.1)


def scraped(lab: Lab, host: str) -> Counter[str]:
    """Open connections by worker, as Prometheus sees them."""
    done = lab.exec(host, "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics")
    assert done.returncode == 0, done.stderr
    return Counter({number: int(float(count)) for number, count in _OPEN.findall(done.stdout)})


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_worker_that_is_killed_leaves_nothing(mesh: Lab, ends: str) -> None:
    """Neither with nobody there, nor when it has been taken over."""
    wait_until(lambda: are_alone(mesh, "host1"), "two serve and one waits", deadline_s=60, every_s=0.1)
    place = mesh.host("host1")
    with Unit(mesh, "host1", "shop") as shop, closing(shop.connect(place.ipv4, CART)) as sock:
        assert say(sock, "hello") == "app:hello"
        (victim,) = look.carriers(mesh, "host1", client="{}:{}".format(*sock.getsockname())).values()
        if ends == "before":
            supervisor = agent.try_supervisor(place)
            assert supervisor
            agent._end(supervisor, signal.SIGKILL)
            end(victim)
            agent._run(place, mesh.state.holder(place))
            agent.wait_healthy([place], print)
        else:
            mesh.crash_agent("host1")
            end(victim)
        assert heard(sock) in ("reset", "closed")
    wait_until(lambda: are_alone(mesh, "host1"), "nothing is left of it", deadline_s=60, every_s=0.1)
    assert ids(mesh, "host1") == []


def carriers(lab: Lab, host: str) -> list[int]:
    """The pids of workers that carry something."""
    return [worker.pid for worker in with_spare(lab, host) if worker.connections]


def end(pid: int) -> None:
    """SIGKILL; returns when it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not look.comm(pid), "it is gone")


def test_one_that_is_stopped_holds_up_nobody(mesh: Lab) -> None:
    """Others hear policy, new calls are served; it hears policy when it goes on."""
    here = mesh.host("host1").ipv4
    with Unit(mesh, "host1", "shop") as shop:
        held: list[socket.socket] = []

        def are_two_carrying() -> bool:
            held.append(shop.connect(here, CART))
            assert say(held[-1], "hello") == "app:hello"
            return len(look.carriers(mesh, "host1")) == 2

        wait_until(are_two_carrying, "two workers carry something")
        mesh.crash_agent("host1")
        wait_until(lambda: len(carriers(mesh, "host1")) == 2, "both were taken over", deadline_s=60, every_s=0.1)
        stopped = carriers(mesh, "host1")[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            mesh.catalog("PUT", "/v1/config", {"Kind": "service-intentions", "Name": "cart", "Sources": [{"Name": "shop", "Action": "deny"}]})
            wait_until(lambda: "reset" in map(heard_now, held), "a worker that runs has cut its own", deadline_s=60)
            assert call(shop, mesh.host("host2").ipv4, WEB, "hello") == "app:hello"
            assert look.status(mesh, "host1")["healthy"]
            assert "open" in map(heard_now, held)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert set(map(heard, held)) <= {"reset", "closed"}  # closed: its reset was heard before
        for sock in held:
            sock.close()


def heard_now(sock: socket.socket) -> str:
    """As `heard`; `open`, without waiting, where there is nothing."""
    return heard(sock) if select.select([sock], [], [], 0)[0] else "open"


def test_a_crash_gives_nobody_more_time(mesh: Lab) -> None:
    """What a reload has set an end holds, and `status` says so."""
    edit_config(mesh, "host1", {"workers = 2": "workers = 2\ndrain_max_s = 300"})
    mesh.reload_agent("host1")
    with Unit(mesh, "host1", "shop") as shop, closing(shop.connect(mesh.host("host1").ipv4, CART)) as sock:
        assert say(sock, "hello") == "app:hello"
        mesh.reload_agent("host1")
        by = time.time() + 300
        edit_config(mesh, "host1", {"drain_max_s = 300": "drain_max_s = 3000"})
        mesh.crash_agent("host1")
        wait_until(lambda: [part["connections"] for part in generations(mesh, "host1")[1:]] == [1], "taken over", deadline_s=60)
        assert time.time() < generations(mesh, "host1")[1]["drain_until"] <= by + 1  # told in whole seconds
        assert say(sock, "still") == "app:still"
    edit_config(mesh, "host1", {"drain_max_s = 3000": ""})


def test_one_whose_lifeline_was_lost_finishes_alone_and_ends_with_a_stop(mesh: Lab) -> None:
    """As where the store was too small, or there is none."""
    edit_config(mesh, "host1", {"workers = 2": "workers = 2\ndrain_s = 1"})
    mesh.reload_agent("host1")
    with Unit(mesh, "host1", "shop") as shop, closing(shop.connect(mesh.host("host1").ipv4, CART)) as sock:
        assert say(sock, "hello") == "app:hello"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(str(mesh.host("host1").directory / fd_store.NOTIFY))
            for name in lifelines(mesh, "host1"):
                manager.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        mesh.crash_agent("host1")
        assert (ids(mesh, "host1"), say(sock, "still")) == ([], "app:still")
        mesh.stop_agent("host1")
        assert mesh.pids("host1", "nodeagent") == ()
        assert say(sock, "gone") in ("reset", "closed")
        assert len(look.log_lines(mesh, "host1", "orphans_ended")) == 1
    edit_config(mesh, "host1", {"drain_s = 1": ""})
    mesh.start_agent("host1")
