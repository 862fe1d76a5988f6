"""Another version takes over, or other settings, while requests go on; a broken one gets no further than the first host."""

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
NEVER_READY = "run_worker = lambda _: __import__('threading').Event().wait()"
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


def status(host: Host) -> dict:
    """`nodeagent status`."""
    return json.loads(host.enter("/opt/nodeagent/bin/nodeagent", "status", "-o", "json").stdout)


def young(host: Host) -> list[str]:
    """The states of the youngest generation's workers."""
    told = status(host)
    return sorted(each["state"] for each in told["workers"] if each["agent_generation"] == told["supervisor"]["generation"])


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
        running = [status(host)["version"] for host in hosts]
        return running + [host.enter("readlink", "/opt/nodeagent/current").stdout.strip() for host in hosts]

    def pids(self) -> list[str]:
        """Of both supervisors."""
        return [host.show("nodeagent.service", "MainPID") for host in (self.web, self.shop)]

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


def test_changed_settings_are_a_reload(mesh: Mesh) -> None:
    """The same processes go on with them, and no connection notices."""
    mesh.goes_on()
    before = mesh.pids()
    one = '{"nodeagent_config": {"host": {"workers": 1}}}'
    mesh.controller.play("site", "--tags", "nodeagent_configure,nodeagent_run", "-e", one)
    mesh.goes_on()
    assert before == mesh.pids()
    for host in (mesh.web, mesh.shop):
        eventually(lambda host=host: young(host) == ["serving", "standby"], 60, "one worker serves, and one is the spare")
    assert mesh.controller.play("site", "-e", one).count("shop", "changed") == 0


def test_settings_that_are_refused_fail_each_play_until_they_are_mended(mesh: Mesh) -> None:
    """The second play, too, which finds its file in place: the agent does not run with it. Both say why."""
    for _ in range(2):
        said = mesh.controller.play("site", "--limit", "shop", "-e", '{"nodeagent_config": {"admin": {"write_group": "nobody-at-all"}}}', status=2).said
        assert "shop goes on as before, and did not take its new configuration: " in said
        assert "there is no group 'nobody-at-all'" in said
    mesh.controller.play("site")
    assert mesh.controller.play("site").count("shop", "changed") == 0
    mesh.goes_on()


def test_a_host_that_is_not_well_before_is_not_changed_over(mesh: Mesh) -> None:
    """The version would be blamed for it. What is wrong is said; once it is mended the same command goes through."""
    before, token = mesh.versions(), "/etc/nodeagent/node.token"
    mesh.web.enter("chmod", "0444", token)
    said = mesh.upgrade(NEXT, str(dist(NEXT, ("bookworm",))), status=2)
    mesh.web.enter("chmod", "0400", token)
    assert f"web is not well as it is, and was not changed over: it stays at {VERSION}" in said
    assert f"the token {token} is open to others" in said
    assert before == mesh.versions()
    mesh.goes_on()


def test_a_version_that_never_serves_stops_at_the_first_host(mesh: Mesh) -> None:
    """That host is back at the version before, the other one never heard of it, and no request has failed."""
    mesh.goes_on()
    before = mesh.versions()
    said = mesh.upgrade(BROKEN, str(dist(BROKEN, ("bookworm",), broken=NEVER_READY)), status=2)
    assert f"web did not take {BROKEN} and is back at" in said
    assert "workers of the generation before still accept connections" in said
    assert before == mesh.versions()
    assert f"What was installed of {BROKEN} is removed." in said
    assert BROKEN not in mesh.web.enter("/opt/nodeagent/bin/nodeagent", "upgrade", "--list").stdout
    assert f"nodeagent-{BROKEN}" not in mesh.shop.enter("dpkg-query", "--show", "nodeagent*").stdout
    mesh.goes_on()
