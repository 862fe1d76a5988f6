"""CPython's own tests of its network modules end in the mesh as they end without it, test by test."""

from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import mesh, suites
from tests.e2e.support.noticed import documented
from tests.e2e.support.waiting import wait_until

SUITE_S = 240.0
ASYNCIO = ("base_events", "buffered_proto", "events", "selector_events", "sendfile", "server", "sock_lowlevel", "ssl", "sslproto", "streams")


class Suite(NamedTuple):
    """Modules of the package `test`."""

    modules: tuple[str, ...]
    captured: int
    """Connections that the agent must have taken, at least: a suite that never met it has proved nothing."""
    passed: int
    """Tests that must have passed, at least."""


SUITES = {
    "socket": Suite(("test.test_socket",), captured=100, passed=300),
    "asyncio": Suite(tuple(f"test.test_asyncio.test_{name}" for name in ASYNCIO), captured=200, passed=400),
    "ftplib": Suite(("test.test_ftplib",), captured=150, passed=80),
    "smtplib": Suite(("test.test_smtplib",), captured=15, passed=80),
    "imaplib": Suite(("test.test_imaplib",), captured=100, passed=90),
    "http": Suite(("test.test_httplib", "test.test_httpservers", "test.test_urllib2_localnet"), captured=100, passed=190),
    "others": Suite(("test.test_poplib", "test.test_socketserver", "test.test_xmlrpc"), captured=100, passed=100),
}
FTP_CLIENTS = [f"test.test_ftplib.{name}.test_" for name in ("TestFTPClass", "TestTLS_FTPClassMixin", "TestIPv6Environment")]
LEFT_OUT = {
    "tunnel": (
        # The client is bound to the server's address, which is on another host here.
        "test.test_smtplib.DebuggingServerTests.testSourceAddress", *(f"{name}source_address" for name in FTP_CLIENTS),
        # The client listens, and a server that is on this host calls it back at an address of this host.
        *(f"{name}makeport" for name in FTP_CLIENTS), "test.test_ftplib.TestIPv6Environment.test_transfer",
    ),
    "local": (),
}  # fmt: skip
"""Tests that cannot run on this way, by the beginning of their names; each runs on the other."""
MIDDLE = "EventLoopTests.test_sendfile_close_peer_in_the_middle_of_receiving"
DIFFERENCES = {
    "test.test_asyncio.test_ssl.TestSSL.test_connect_timeout_warning": "A call that nobody takes",
    **{f"test.test_asyncio.test_sendfile.{loop}{MIDDLE}": "Bytes on their way" for loop in ("EPoll", "Poll", "Select")},
}
"""Tests that end otherwise in the mesh, and the row of the README's table that says why."""


@pytest.fixture(scope="module")
def bare(make_lab: MakeLab) -> Lab:
    """Hosts without agents."""
    lab = make_lab(agents=False)
    suites.prepare(lab)
    return lab


@pytest.fixture(scope="module")
def meshed(make_lab: MakeLab) -> Lab:
    """Hosts with agents; shop may call whatever the suites start."""
    lab = make_lab()
    suites.prepare(lab)
    for host in ("host1", "host2"):
        suites.register(lab, host)
    mesh.allow(lab, "shop", suites.SERVICE)
    return lab


@pytest.mark.slow
@pytest.mark.timeout(2 * SUITE_S)
@pytest.mark.parametrize("way", suites.SERVER_HOST)
@pytest.mark.parametrize("name", SUITES)
def test_a_suite_ends_the_same(bare: Lab, meshed: Lab, tmp_path: Path, name: str, way: str) -> None:
    """Each test for itself, and their connections were captured."""
    suite = SUITES[name]
    before = mesh.opened(meshed, "host1")["outbound"]
    runs = []
    for lab in (bare, meshed):
        directory = tmp_path / lab.name
        directory.mkdir()
        runs.append(suites.start(lab, way, suite.modules, LEFT_OUT[way], directory))
    direct, through = (run.outcomes(SUITE_S) for run in runs)
    differing = {test for test in direct.outcomes | through.outcomes if direct.outcomes.get(test) != through.outcomes.get(test)}
    told = {test: (direct.outcomes.get(test), through.outcomes.get(test), through.words.get(test)) for test in differing}
    listed = {test for test in DIFFERENCES if test in direct.outcomes}
    assert differing == listed, told
    assert sum(outcome == "ok" for outcome in through.outcomes.values()) >= suite.passed
    wait_until(lambda: mesh.opened(meshed, "host1")["outbound"] - before >= suite.captured, "connections were captured")
    mesh.wait_quiet(meshed)


def test_the_differences_are_documented() -> None:
    """Each has a row in the README's table."""
    assert set(DIFFERENCES.values()) <= documented()
