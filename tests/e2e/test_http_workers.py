"""What four workers of a host share about requests: bounds of a caller, and instances that one of them ejected."""

import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.control.report import ConnectionsAnswer, RouteAnswer
from nodeagent.lab.ask import ask_agent
from nodeagent.lab.lab import Lab
from nodeagent.model.address import Address
from tests.e2e.conftest import MakeLab
from tests.e2e.support import web
from tests.e2e.support.unit import Unit
from tests.e2e.support.waiting import wait_until

PORT = 8083
APP = Path(__file__).parent / "support" / "web_app.py"
WORKERS = 4
BOUND = 8
SUBSETS = {"v1": {"Filter": "Node.Node == host2"}}
BOTH = {"Kind": "service-resolver", "Name": "api", "LoadBalancer": {"Policy": "round_robin"}}
ONE = {"Kind": "service-resolver", "Name": "api", "DefaultSubset": "v1", "Subsets": SUBSETS}


@pytest.fixture(scope="module")
def site(make_lab: MakeLab) -> Iterator[Lab]:
    """`api` on host2, which answers /bad with 503, and on host3, which does not; shop, on host1, may ask for everything."""
    lab = make_lab(hosts=3, workers=WORKERS)
    for host, name in (("host2", "bad"), ("host3", "good")):
        lab.run(host, "api", [sys.executable, str(APP), str(PORT), name], port=PORT, protocol="http")
    put(lab, {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "shop", "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]})
    yield lab
    for host in ("host2", "host3"):
        lab.stop(host, "api")


@pytest.fixture
def entries(site: Lab) -> Iterator[Lab]:
    """What a test says is taken back."""
    yield site
    before = web.generation(site, "host1")
    site.catalog("DELETE", "/v1/config/service-resolver/api")
    wait_until(lambda: web.generation(site, "host1") > before, "no resolver on host1")
    put(site, {"Kind": "service-defaults", "Name": "shop", "Protocol": "tcp"})


@pytest.fixture
def shop(site: Lab) -> Iterator[Unit]:
    with Unit(site, "host1", "shop") as unit:
        yield unit


def put(lab: Lab, entry: dict) -> None:
    """In force at host1, where requests are given their way."""
    before = web.generation(lab, "host1")
    lab.catalog("PUT", "/v1/config", entry)
    wait_until(lambda: web.generation(lab, "host1") > before, f"{entry['Kind']} on host1")
    web.settle(lab)


def calls(**said: object) -> dict:
    """How shop calls."""
    return {"Kind": "service-defaults", "Name": "shop", "Protocol": "tcp", "UpstreamConfig": {"Defaults": said}}


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode()


def by_worker(lab: Lab, unit: Unit, least: int) -> list[list[socket.socket]]:
    """Open connections of each worker, at least so many: the kernel gives them out by chance."""
    owned: dict[str, list[socket.socket]] = defaultdict(list)
    while len(owned) < WORKERS or min(map(len, owned.values())) < least:
        opened = [unit.connect(lab.host("host2").ipv4, PORT) for _ in range(20)]
        mine = {str(Address(*each.getsockname())): each for each in opened}
        for each in mine.values():
            assert web.ask(each, get("/who"))[0] in {200, 503}
        rows = ask_agent(lab.host("host1"), "/v1/connections?limit=1000", ConnectionsAnswer).connections
        for row in rows:
            if row.client in mine:
                owned[row.id.partition("-")[0]].append(mine[row.client])
    return list(owned.values())


def at_once(socks: list[socket.socket], path: str) -> list[int]:
    """Statuses of one request on each, all under way together."""
    for sock in socks:
        sock.sendall(get(path))
    return [web.answer(sock)[0] for sock in socks]


def test_a_bound_holds_over_all_workers_and_one_may_use_it_all(entries: Lab, shop: Unit) -> None:
    """Never more than it at the instance; and what the others do not need is lent."""
    put(entries, ONE)
    put(entries, calls(Limits={"MaxConcurrentRequests": BOUND}))
    owned = by_worker(entries, shop, BOUND)
    for _ in range(10):
        statuses = at_once([sock for socks in owned for sock in socks[:BOUND]], "/busy?0.05")
        assert set(statuses) <= {200, 503}
    assert BOUND - 1 <= peak(owned) <= BOUND
    for socks in owned:
        wait_until(lambda socks=socks: at_once(socks[:BOUND], "/busy?0.2").count(200) >= BOUND - 1, "one worker uses what the others do not")
        assert BOUND - 1 <= peak(owned) <= BOUND
    page = entries.exec("host1", "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout
    assert "nodeagent_requests_shed_total{" in page


def peak(owned: list[list[socket.socket]]) -> int:
    """How many requests the instance had at once since this was asked last."""
    status, _, body = web.ask(owned[0][0], get("/peak"))
    assert status == 200
    return int(body)


def test_connections_have_a_bound_too(entries: Lab, shop: Unit) -> None:
    """Each worker in turn has all of them, and the instance never has more, of whichever worker."""
    put(entries, ONE)
    put(entries, calls(Limits={"MaxConnections": 2}))
    owned = by_worker(entries, shop, 2)
    for socks in owned:
        assert at_once(socks[:2], "/busy?0.05") == [200, 200]
    statuses = at_once([socks[0] for socks in owned], "/busy?0.2")
    assert statuses.count(200) >= 2
    assert peak(owned) <= 2


def test_an_instance_that_one_worker_ejected_is_left_alone_by_all(entries: Lab, shop: Unit) -> None:
    """Within a second; and `route explain` says so."""
    put(entries, BOTH)
    put(entries, calls(PassiveHealthCheck={"MaxFailures": 3, "MaxEjectionPercent": 100, "BaseEjectionTime": "60s"}))
    owned = by_worker(entries, shop, 1)
    told = [web.ask(owned[0][0], get("/bad"))[0] for _ in range(8)]
    assert told.count(503) == 3, told
    asked = [web.ask(socks[0], get("/who")) for socks in owned[1:] for _ in range(6)]
    assert {body for _, _, body in asked} == {b"good"}
    (leg,) = ask_agent(entries.host("host1"), "/v1/route?from=shop&to=api", RouteAnswer).explanation.legs
    assert {each.host for each in leg.candidates if each.ejected_s} == {"host2"}
