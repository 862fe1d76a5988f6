"""Labs for the end-to-end tests: real network namespaces, rules, cgroups and agents; all gone when the tests end."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nodeagent.lab.build import Plan
from nodeagent.lab.lab import Lab
from nodeagent.lab.layout import lab_directory
from nodeagent.lab.teardown import take_down
from redirect.backend import BACKENDS
from redirect.settings import Backend
from tests.e2e.netns import Host, two_hosts
from tests.e2e.support.arena import Arena
from tests.e2e.support.catalogs import catalog, name, newer, opened  # noqa: F401 - fixtures
from tests.e2e.support.remains import remains_of
from tests.e2e.support.wire import Wire, new_canary

PREFIX = f"e2e{os.getpid()}"
LOG_LINES = 80
_numbers = itertools.count(1)
_labs: list[Lab] = []

MakeLab = Callable[..., Lab]
Capture = Callable[..., Wire]


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After all tests, pass or fail, no process, cgroup, mount or file of a lab of ours is there."""
    yield
    assert remains_of(PREFIX) == []


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each part of the kernel that may get the rules. Where one cannot be used its tests fail; nothing is skipped."""
    chosen: Backend = request.param
    return chosen


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """Names of labs that no other run uses; whoever brings one up takes it down."""
    return lambda: f"{PREFIX}-{next(_numbers)}"


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two fresh hosts with a network between them and nothing else, for tests of `redirect` alone."""
    with two_hosts() as pair:
        yield pair


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    """A fresh host."""
    return hosts[0]


@pytest.fixture(scope="module")
def make_lab(new_name: Callable[[], str]) -> Iterator[MakeLab]:
    """`make_lab(hosts=2, mode="strict", workers=2, agents=True)`: a lab until the module ends."""
    with ExitStack() as stack:

        def make(**plan: Any) -> Lab:
            name = new_name()
            stack.callback(take_down, name)
            lab = Lab.up(Plan(name=name, **plan))
            _labs.append(lab)
            stack.callback(_labs.remove, lab)
            return lab

        yield make


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Two hosts with agents in strict mode, for all tests of the module."""
    return make_lab()


@pytest.fixture(scope="module")
def arena(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Three hosts with agents of one worker each, and who attacks whom, for all tests of the module."""
    lab = make_lab(hosts=3, workers=1)
    with Arena(lab, tmp_path_factory.mktemp("arena")) as made:
        yield made


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    """`capture(lab, snap_bytes=…)`: what crosses that lab's bridge from now on."""
    with ExitStack() as stack:

        def start(of: Lab, **options: Any) -> Wire:
            wire = Wire(of, tmp_path, **options)
            stack.callback(wire.close)
            return wire

        yield start


@pytest.fixture
def wire(lab: Lab, capture: Capture) -> Wire:
    """What crosses the bridge of `lab` during the test."""
    return capture(lab)


@pytest.fixture
def tunnels_only(capture: Capture) -> Iterator[None]:
    """In labs with agents nothing crosses the bridge in clear during the test: whatever the applications say is a canary."""
    meshed = [lab for lab in _labs if lab.exec("host1", "test", "-S", "/run/nodeagent/api.sock").returncode == 0]
    assert meshed
    wires = [capture(lab, snap_bytes=256, but_tunnels=True) for lab in meshed]
    yield
    for wire in wires:
        wire.assert_tunnels_only()


@pytest.fixture
def canary() -> str:
    """A text for payloads that must be protected: `wire.assert_never_in_clear(canary)`."""
    return new_canary()


@pytest.fixture
def clear_canary() -> str:
    """A text for payloads of flows that are declared to be allowed in clear."""
    return new_canary("ALLOWED-IN-CLEAR")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the logs of every lab that is up to the report of a test that failed."""
    report = yield
    if report.failed:
        for lab in _labs:
            for log in sorted(lab_directory(lab.name).glob("*/log/*.log")):
                lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
                report.sections.append((f"{log.parts[-3]} {log.name}", "\n".join(lines)))
    return report
