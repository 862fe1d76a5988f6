"""More services than an agent watches: the first connection to a new instance of one that is not watched is not lost."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.lab import HTTP
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

OTHERS = 140
"""Services besides: more than an agent watches. Of equals those are watched that were there before."""
FAR = {f"zebra{number}": 9000 + number for number in range(5)}
"""Those that are not watched, each with a first instance on host3, and a port of host2 where there will be another."""


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """`shop` calls from host1, where nobody has called any of them yet."""
    made = make_lab(hosts=3, workers=1)
    for number in range(OTHERS):
        enter(made, "rack", f"other{number:03}", 1000 + number)
    eventually(lambda: is_beyond(made, OTHERS), look.WITHIN_S, "more services than are watched")
    for name, port in FAR.items():
        enter(made, "host3", name, port)
    set_intentions(made, {("shop", name): "allow" for name in FAR})
    eventually(lambda: is_beyond(made, OTHERS + len(FAR)), look.WITHIN_S, "all services")
    return made


def enter(lab: Lab, host: str, name: str, port: int) -> None:
    """Registers a service."""
    place = {"Address": "10.99.0.1"} if host == "rack" else {"SkipNodeUpdate": True}
    service = {"ID": f"{name}-{host}", "Service": name, "Port": port}
    lab.catalog("PUT", "/v1/catalog/register", {"Node": host, **place, "Service": service})


def is_beyond(lab: Lab, count: int) -> bool:
    """Whether every agent knows so many services, and watches some of them only."""
    answers = [look.status(lab, host) for host in ("host1", "host2", "host3")]
    return all("read in one answer" in str(answer) and len(look.ask(lab, "host1", "services")["services"]) >= count for answer in answers)


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Iterator[None]:
    """What is going to be registered on host2 listens."""
    with ExitStack() as stack:
        for name, port in FAR.items():
            stack.enter_context(serving(lab, port, name))
        yield


@contextmanager
def serving(lab: Lab, port: int, service: str = "") -> Iterator[None]:
    """A server on host2."""
    process = lab.popen("host2", [*HTTP, str(port)], service=service, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: fetch(lab, "host2", f"http://127.0.0.1:{port}/"), look.WITHIN_S, f"port {port}")
        yield
    finally:
        process.terminate()
        process.wait()


def fetch(lab: Lab, host: str, url: str, *more: str) -> str:
    """What curl shows as `shop`; empty where it fails."""
    return lab.exec(host, "curl", "-s", "-g", "-m", "10", *more, url, service="shop").stdout


def test_the_first_connection_to_a_new_instance_goes_through_the_tunnel(lab: Lab, servers: None, wire: Wire, canary: str) -> None:
    """At once after it was registered, at a port of which neither the caller's agent nor the callee's has heard."""
    place = lab.host("host2")
    for name, port in FAR.items():
        url = f"http://{place.ipv4}:{port}/" if port % 2 else f"http://[{place.ipv6}]:{port}/"
        enter(lab, "host2", name, port)
        assert "Directory listing" in fetch(lab, "host1", url, "-H", f"X-Canary: {canary}"), look.log_lines(lab, "host1")[-1:]
        (row,) = look.closed(lab, "host1", 1, destination=name)
        assert (row["source"], row["path"], row["peer"], row["permit"]) == ("shop", "tunnel", "host2", f"shop -> {name} (allow)")
    wire.assert_never_in_clear(canary)


def test_a_port_where_nobody_is_registered_is_called_as_ever(lab: Lab, wire: Wire, clear_canary: str) -> None:
    """In clear, as the setting says, each time and soon."""
    place = lab.host("host2")
    with serving(lab, 7000):
        for _ in range(5):
            assert "Directory listing" in fetch(lab, "host1", f"http://{place.ipv4}:7000/", "-H", f"X-Canary: {clear_canary}")
    rows = look.closed(lab, "host1", 5, original_dst=f"{place.ipv4}:7000")
    assert {(row.get("destination", ""), row["path"]) for row in rows} == {("", "direct")}
    wire.assert_in_clear(clear_canary)
