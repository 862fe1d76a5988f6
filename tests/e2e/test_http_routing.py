"""Where requests go, as entries of the catalog have it: routers, splitters, subsets, retries, ejections, between three real hosts."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import web
from tests.e2e.support.settings import edit_config, restart
from tests.e2e.support.unit import Unit
from tests.e2e.support.waiting import wait_until
from tests.support.eventually import eventually

PORT = 8083
APP = Path(__file__).parent / "support" / "web_app.py"
SUBSETS = {"v1": {"Filter": "Node.Node == host2"}, "v2": {"Filter": "Node.Node == host3"}}
RESOLVER = {"Kind": "service-resolver", "Name": "api", "DefaultSubset": "v1", "Subsets": SUBSETS}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(hosts=3)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Lab]:
    """`api` on host2, which answers /bad with 503, and on host3, which does not; shop and prometheus may ask for everything."""
    for host, name in (("host2", "bad"), ("host3", "good")):
        lab.run(host, "api", [sys.executable, str(APP), str(PORT), name], port=PORT, protocol="http")
    sources = [{"Name": name, "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}]} for name in ("shop", "prometheus")]
    put(lab, {"Kind": "service-intentions", "Name": "api", "Sources": sources})
    yield lab
    for host in ("host2", "host3"):
        lab.stop(host, "api")


@pytest.fixture
def entries(site: Lab) -> Iterator[Lab]:
    """What a test says is taken back."""
    yield site
    for kind in ("service-router", "service-splitter", "service-resolver"):
        site.catalog("DELETE", f"/v1/config/{kind}/api")
    site.catalog("DELETE", "/v1/config/service-defaults/shop")
    put(site)


@pytest.fixture
def shop(site: Lab) -> Iterator[Unit]:
    with Unit(site, "host1", "shop") as unit:
        yield unit


def put(lab: Lab, *entries: dict) -> None:
    """In force at host1, where requests are given their way, and everywhere."""
    for entry in entries:
        before = {host.name: web.generation(lab, host.name) for host in lab.state.members}
        lab.catalog("PUT", "/v1/config", entry)
        wait_until(lambda before=before: web.generation(lab, "host1") > before["host1"], f"{entry['Kind']} on host1")
    wait_until(lambda: is_quiet(lab), "the last of what was said before")
    web.settle(lab)


def is_quiet(lab: Lab) -> bool:
    """Whether nothing new has come for longer than an answer of the catalog is held: the last news may have been of an earlier change."""
    before = web.generation(lab, "host1")
    time.sleep(1.5 / limits.CATALOG_RATE_PER_S)
    return web.generation(lab, "host1") == before


def get(path: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: api", *fields, b"", b""))


def asked(lab: Lab, unit: Unit, count: int, path: bytes = b"/who", *fields: bytes, host: str = "host2") -> Counter[bytes]:
    """Whose answers come, of so many requests on one connection to one instance."""
    sock = unit.connect(lab.host(host).ipv4, PORT)
    told: Counter[bytes] = Counter()
    for _ in range(count):
        status, _, body = web.ask(sock, get(path, *fields))
        told[body if status == 200 else b"%d" % status] += 1
    sock.close()
    return told


def test_a_dialled_instance_is_that_instance_where_nothing_is_said(site: Lab, shop: Unit) -> None:
    assert asked(site, shop, 20) == {b"bad": 20}
    assert asked(site, shop, 20, host="host3") == {b"good": 20}


def test_a_canary_by_header(entries: Lab, shop: Unit) -> None:
    """And by path; all else goes to the default subset, whatever was dialled."""
    match = {"HTTP": {"Header": [{"Name": "x-canary", "Exact": "1"}]}}
    router = {"Kind": "service-router", "Name": "api", "Routes": [{"Match": match, "Destination": {"ServiceSubset": "v2"}}]}
    put(entries, RESOLVER, router)
    assert asked(entries, shop, 20, b"/who", b"X-Canary: 1") == {b"good": 20}
    assert asked(entries, shop, 20, host="host3") == {b"bad": 20}


def test_a_split_is_kept_within_a_percentage_point(entries: Lab, shop: Unit) -> None:
    splits = [{"Weight": 90, "ServiceSubset": "v1"}, {"Weight": 10, "ServiceSubset": "v2"}]
    put(entries, RESOLVER, {"Kind": "service-splitter", "Name": "api", "Splits": splits})
    told = asked(entries, shop, 20_000)
    assert sum(told.values()) == told[b"bad"] + told[b"good"]
    assert 0.09 <= told[b"good"] / 20_000 <= 0.11


def test_retries_hide_an_instance_that_answers_503(entries: Lab, shop: Unit) -> None:
    """While it is not ejected, and when it is; of both, none is seen by the client."""
    balancer = {"Policy": "round_robin"}
    destination = {"NumRetries": 3, "RetryOnStatusCodes": [503]}
    budget = {"Kind": "retry-budget", "Name": "api", "Ratio": 1.0}
    router = {"Kind": "service-router", "Name": "api", "Routes": [{"Destination": destination}]}
    entries.catalog("PUT", "/v1/kv/nodeagent/config/retry-budget/api", budget)
    put(entries, {"Kind": "service-resolver", "Name": "api", "LoadBalancer": balancer}, router)
    told = asked(entries, shop, 200, b"/bad")
    assert told[b"good"] == 200, told


def test_an_instance_that_fails_is_ejected_and_comes_back(entries: Lab, shop: Unit) -> None:
    """After as many failures in a row as are allowed; each worker sees it by itself."""
    health = {"MaxFailures": 3, "MaxEjectionPercent": 100, "BaseEjectionTime": "3s"}
    put(
        entries,
        {"Kind": "service-defaults", "Name": "shop", "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": health}}},
        {"Kind": "service-resolver", "Name": "api", "LoadBalancer": {"Policy": "round_robin"}},
    )
    told = asked(entries, shop, 100, b"/bad")
    assert told[b"503"] <= 6, told
    assert told[b"good"] >= 94
    wait_until(lambda: "nodeagent_request_ejections_total{" in metrics(entries), "the ejection is counted")
    eventually(lambda: asked(entries, shop, 4)[b"bad"] > 0, 30.0, "it is back")


def metrics(lab: Lab) -> str:
    return lab.exec("host1", "curl", "-sSf", f"http://127.0.0.1:{limits.METRICS_PORT}/metrics").stdout


def test_who_dials_instances_reaches_each(entries: Lab) -> None:
    """A Prometheus, by the configuration of its host; everybody else goes where the entries lead."""
    edit_config(entries, "host1", {}, added='[traffic]\ncodec = "h11"\ndial_instance = ["prometheus"]')
    restart(entries, "host1")
    put(entries, RESOLVER)
    with Unit(entries, "host1", "prometheus") as prometheus, Unit(entries, "host1", "shop") as shop:
        assert asked(entries, prometheus, 5, host="host3") == {b"good": 5}
        assert asked(entries, prometheus, 5, host="host2") == {b"bad": 5}
        assert asked(entries, shop, 5, host="host3") == {b"bad": 5}
