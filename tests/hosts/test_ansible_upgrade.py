"""Another version takes over, host by host, while requests go on; a broken one gets no further than the first host."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.hosts.support.controller import Controller
from tests.hosts.support.dist import NEXT, dist
from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.image import VERSION
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(900)  # the first test makes the packages of three versions, when they are not kept

BROKEN = "0.1.8"
NGINX = "server { listen 8080; keepalive_requests 1000000; location / { return 200 'hello'; } }\n"
LOAD = """
import http.client, time
asked = failed = 0
kept = http.client.HTTPConnection("ADDRESS", 8080, timeout=20)
kept.connect()
first = kept.sock
while True:
    fresh = http.client.HTTPConnection("ADDRESS", 8080, timeout=20)
    for connection in (kept, fresh):
        asked += 1
        try:
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"
            assert kept.sock is first, "the kept connection was closed"
        except Exception as error:
            failed += 1
            print("FAILED", type(error), error, connection is kept, flush=True)
    fresh.close()
    open("/run/load", "w").write(f"{asked} {failed}")
    time.sleep(0.01)
"""


@dataclass
class Mesh:
    web: Host
    shop: Host
    controller: Controller

    def asked_and_failed(self) -> tuple[int, int]:
        """What the load has asked since it began, and what of it has failed."""
        asked, failed = self.shop.enter("cat", "/run/load").stdout.split() or ("0", "0")
        return int(asked), int(failed)

    def goes_on(self) -> None:
        """Waits until a hundred more requests were answered; none has failed since the load began."""
        before, _ = self.asked_and_failed()
        eventually(lambda: self.asked_and_failed()[0] > before + 100, 60, "the load goes on")
        assert self.asked_and_failed()[1] == 0, self.shop.messages("shop.service")

    def versions(self) -> list[str]:
        """What runs, and what would start."""
        hosts = (self.web, self.shop)
        running = [json.loads(host.enter("/opt/nodeagent/bin/nodeagent", "status", "-o", "json").stdout)["version"] for host in hosts]
        return running + [host.enter("readlink", "/opt/nodeagent/current").stdout.strip() for host in hosts]

    def upgrade(self, version: str, place: str, status: int = 0) -> str:
        options = json.dumps({"nodeagent_version": version, "nodeagent_dist": place})
        return self.controller.play("upgrade", "-e", options, status=status).said


@pytest.fixture(scope="module")
def mesh(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """web has the catalog, too; shop calls it all the time, by a connection that it keeps and by new ones."""
    work = tmp_path_factory.mktemp("controller")
    with hosts.up("web") as web, hosts.up("shop") as shop, Controller(hosts, work) as controller:
        listen = f"{web.address}:8501"
        controller.inventory(
            {"nodeagent_catalog": [web], "nodeagent": [web, shop]},
            {
                "all": {"nodeagent_dist": str(dist()), "nodeagent_catalog_address": f"https://{listen}", "nodeagent_mode": "strict"},
                "nodeagent_catalog": {
                    "nodeagent_catalog_listen": listen,
                    "nodeagent_intentions": [{"source": "shop", "destination": "web"}],
                },
                "web": {"nodeagent_services": [{"name": "web", "unit": "nginx.service", "port": 8080}]},
                "shop": {"nodeagent_services": [{"name": "shop"}]},
            },
        )
        web.put("/etc/nginx/conf.d/web.conf", NGINX)
        web.enter("systemctl", "enable", "--now", "nginx.service")
        controller.play("site")
        shop.put("/usr/local/bin/load.py", LOAD.replace("ADDRESS", web.address))
        shop.put("/etc/systemd/system/shop.service", "[Service]\nExecStart=/usr/bin/python3 /usr/local/bin/load.py\n")
        shop.enter("systemctl", "daemon-reload")
        shop.enter("systemctl", "start", "shop.service")
        yield Mesh(web, shop, controller)


def test_the_next_version_and_back_without_a_failed_request(mesh: Mesh) -> None:
    """A connection that is kept, and new ones all the time: none of them notices that both agents change over, twice."""
    mesh.goes_on()
    mesh.upgrade(NEXT, str(dist(NEXT, ("bookworm",))))
    assert [NEXT, NEXT, f"versions/{NEXT}", f"versions/{NEXT}"] == mesh.versions()
    mesh.goes_on()
    mesh.upgrade(VERSION, str(dist()))
    assert [VERSION, VERSION, f"versions/{VERSION}", f"versions/{VERSION}"] == mesh.versions()
    mesh.goes_on()


def test_a_broken_version_stops_at_the_first_host(mesh: Mesh) -> None:
    """That host is back at the version before, the other one never heard of it, and no request has failed."""
    mesh.goes_on()
    before = mesh.versions()
    said = mesh.upgrade(BROKEN, str(dist(BROKEN, ("bookworm",), broken='raise RuntimeError("broken on purpose")')), status=2)
    assert f"web did not take {BROKEN} and is back at" in said
    assert before == mesh.versions()
    assert f"nodeagent-{BROKEN}" not in mesh.shop.enter("dpkg-query", "--show", "nodeagent*").stdout
    mesh.goes_on()
