"""CPython's own tests of its network modules end in the mesh as they end without it, test by test."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import mesh, suites
from tests.e2e.support.noticed import documented
from tests.e2e.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("tunnels_only")

SUITE_S = 240.0
HTTP = ("httplib", "httpservers", "http_cookiejar", "urllib2_localnet")
ASYNCIO = ("base_events", "buffered_proto", "events", "selector_events", "sendfile", "server", "sock_lowlevel", "ssl", "sslproto", "streams")


class Suite(NamedTuple):
    """Modules of the package `test`."""

    modules: tuple[str, ...]
    captured: int
    """Connections that the agent must have taken, at least: a suite that never met it has proved nothing."""
    passed: int
    """Tests that must have passed, at least."""


SUITES = {
    "socket": Suite(("test.test_socket",), captured=100, passed=340),
    "asyncio": Suite(tuple(f"test.test_asyncio.test_{name}" for name in ASYNCIO), captured=200, passed=650),
    "ftplib": Suite(("test.test_ftplib",), captured=150, passed=80),
    "smtplib": Suite(("test.test_smtplib",), captured=15, passed=80),
    "imaplib": Suite(("test.test_imaplib",), captured=100, passed=90),
    "http": Suite(tuple(f"test.test_{name}" for name in HTTP), captured=100, passed=190),
}
FTP_CLIENTS = [f"test.test_ftplib.{name}.test_" for name in ("TestFTPClass", "TestTLS_FTPClassMixin", "TestIPv6Environment")]
LEFT_OUT = {
    "tunnel": (
        # The client is bound to the server's address, which is on another host here.
        "test.test_smtplib.DebuggingServerTests.testSourceAddress", *(f"{name}source_address" for name in FTP_CLIENTS),
        *(f"test.test_socket.{what}{kind}" for what in ("Sendmsg", "Recvmsg", "RecvmsgInto") for kind in ("TCP", "SCTP")),
        # The client listens, and a server that is on this host calls it back at an address of this host.
        *(f"{name}makeport" for name in FTP_CLIENTS), "test.test_ftplib.TestIPv6Environment.test_transfer",
    ),
    "local": (),
    "both": (
        "test.test_socket.ThreadedVSOCK",  # no TCP, and not of one network: both runs would want the same port
        # Datagrams, which the mesh does not carry; on a busy machine they are lost, and their tests wait for them.
        *(f"test.test_socket.{what}UDP" for what in ("Sendmsg", "Recvmsg", "RecvmsgInto")),
        *(f"test.test_socket.{what}RFC3542AncillaryUDP" for what in ("Recvmsg", "RecvmsgInto")),
    ),
}  # fmt: skip
"""Tests that cannot run on this way, by the beginning of their names; each runs on the other."""
DIFFERENCES = {
    **dict.fromkeys(
        (
            "test.test_socket.NetworkConnectionNoServer.test_*",
            "test.test_asyncio.test_events.*.test_server_close",
            "test.test_asyncio.test_events.*.test_create_connection_local_addr_skip_different_family",
            "test.test_asyncio.test_sock_lowlevel.*.test_cancel_sock_accept",
            "test.test_asyncio.test_sock_lowlevel.*.test_sock_client_connect_racing",
            "test.test_asyncio.test_sock_lowlevel.*.test_sock_client_fail",
            "test.test_asyncio.test_ssl.TestSSL.test_connect_timeout_warning",
        ),
        "A call that nobody takes",
    ),
    "test.test_asyncio.test_sock_lowlevel.*.test_sock_accept": "The caller's port",
    "test.test_asyncio.test_sendfile.*.test_sendfile_close_peer_in_the_middle_of_receiving": "Bytes on their way",
}
"""Tests that may end otherwise in the mesh, and the row of the README's table that says why.

May, not must: whether the agent's reset is there before connect() has returned is a matter of microseconds. But each row that
a suite's tests are listed for is seen in one of them, through a tunnel.
"""


def rows_of(tests: Iterable[str]) -> set[str]:
    """The rows that these tests are listed for; a test that is not listed is its own."""
    found = {test: {row for pattern, row in DIFFERENCES.items() if fnmatchcase(test, pattern)} for test in tests}
    return {row for test, rows in found.items() for row in rows or {test}}


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
    direct, through = run_in_both((bare, meshed), way, suite.modules, tmp_path / "all")
    if hasty := {test for test in differences(direct, through) if rows_of([test]) == {test}}:
        # Some wait for a second and no longer, which a busy machine may take: what differs, differs again by itself.
        for first, again in zip((direct, through), run_in_both((bare, meshed), way, sorted(hasty), tmp_path / "again"), strict=True):
            first.outcomes |= again.outcomes
            first.words |= again.words
    differing = differences(direct, through)
    told = {test: (direct.outcomes.get(test), direct.words.get(test), through.outcomes.get(test), through.words.get(test)) for test in differing}
    listed = {test for test in direct.outcomes if rows_of([test]) != {test}}
    assert rows_of(differing) <= rows_of(listed), told
    if way == "tunnel":  # the longer way, on which the agent's reset comes late and more bytes are under way
        assert rows_of(differing) == rows_of(listed), told
    assert sum(outcome == "ok" for outcome in through.outcomes.values()) >= suite.passed
    wait_until(lambda: mesh.opened(meshed, "host1")["outbound"] - before >= suite.captured, "connections were captured")
    mesh.wait_quiet(meshed)


def differences(direct: suites.Outcomes, through: suites.Outcomes) -> set[str]:
    """The tests that did not end the same."""
    return {test for test in direct.outcomes | through.outcomes if direct.outcomes.get(test) != through.outcomes.get(test)}


def run_in_both(labs: Sequence[Lab], way: str, tests: Sequence[str], at: Path) -> list[suites.Outcomes]:
    """How the tests end in each lab; they run at the same time."""
    left_out = [*LEFT_OUT[way], *LEFT_OUT["both"]]
    with ExitStack() as stack:
        runs = []
        for lab in labs:
            directory = at / lab.name
            directory.mkdir(parents=True)
            runs.append(suites.start(lab, way, tests, left_out, directory))
            stack.callback(runs[-1].end)
        return [run.outcomes(SUITE_S) for run in runs]


def test_the_differences_are_documented() -> None:
    """Each has a row in the README's table."""
    assert set(DIFFERENCES.values()) <= documented()
