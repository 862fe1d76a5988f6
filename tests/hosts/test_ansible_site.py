"""Three hosts, installed by Ansible over ssh: nginx and a timer's curl, unmodified, in a mesh whose default is no."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.support.controller import Controller, Play
from tests.hosts.support.dist import dist
from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.traces import differences, traces
from tests.support.eventually import eventually

pytestmark = pytest.mark.timeout(600)  # the first test makes packages, when they are not kept, and three hosts

SSH_PORT = 2222  # of web, whose sshd listens nowhere else
SHOP_SERVICE = "[Service]\nType=oneshot\nExecStart=curl -sS --max-time 20 -o /run/shop.out http://{web}:8080/\n"
SHOP_TIMER = "[Timer]\nOnActiveSec=1\nOnUnitActiveSec=2\nAccuracySec=100ms\n"
NGINX = "server {{ listen 8080; listen [::]:8080; location / {{ return 200 'hello {mark}'; }} }}\n"

TOLD_OTHERWISE = {  # in check mode: by what is copied for it, or by a message
    "nodeagent.mesh.package : Install it", "nodeagent.mesh.catalog : Restart the catalog",
    "nodeagent.mesh.catalog : Run the catalog, or stop it", "nodeagent.mesh.agent : Run the agent, or stop it",
    "nodeagent.mesh.agent : Remember what it does not run with yet",
}  # fmt: skip


@dataclass
class Mesh:
    hosts: dict[str, Host]
    controller: Controller
    checked: Play
    left_by_check: list[str]
    installed: Play


@pytest.fixture(scope="module")
def mesh(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """host1 is the catalog's host, too; each is looked at in check mode before anything is there."""
    work = tmp_path_factory.mktemp("controller")
    with hosts.up("host1") as one, hosts.up("web") as web, hosts.up("shop", "trixie") as shop, Controller(hosts, work) as controller:
        _applications(web, shop)
        listen = f"{one.address}:8501"
        controller.inventory(
            {"nodeagent_catalog": [one], "nodeagent": [one, web, shop]},
            {
                "all": {"nodeagent_dist": str(dist()), "nodeagent_catalog_address": f"https://{listen}", "nodeagent_mode": "strict"},
                "nodeagent_catalog": {"nodeagent_catalog_listen": listen},
                "web": {"nodeagent_services": [{"name": "web", "unit": "nginx.service", "port": 8080}], "ansible_port": SSH_PORT},
                "shop": {"nodeagent_services": [{"name": "shop"}]},
                **{host.name: {"nodeagent_addresses": [host.address, host.address6.upper()]} for host in (one,)},
            },
        )
        before = {host.name: traces(host) for host in (one, web, shop)}
        checked = controller.play("site", "--check", "--diff")
        left = [line for host in (one, web, shop) for line in differences(before[host.name], traces(host))]
        yield Mesh({"host1": one, "web": web, "shop": shop}, controller, checked, left, controller.play("site"))


def _applications(web: Host, shop: Host) -> None:
    web.put("/etc/ssh/sshd_config.d/port.conf", f"Port {SSH_PORT}\n")
    web.enter("systemctl", "restart", "ssh.service")
    web.put("/etc/nginx/conf.d/mark.conf", NGINX.format(mark="from web"))
    web.enter("systemctl", "enable", "--now", "nginx.service")
    shop.put("/etc/systemd/system/shop.service", SHOP_SERVICE.format(web=web.address))
    shop.put("/etc/systemd/system/shop.timer", SHOP_TIMER)
    shop.enter("systemctl", "daemon-reload")
    shop.enter("systemctl", "start", "shop.timer")


def test_check_mode_on_a_virgin_host_tells_and_does_nothing(mesh: Mesh) -> None:
    """It does not fail on what is not there yet, says that much would change, and leaves no trace."""
    assert [] == mesh.left_by_check
    for name in mesh.hosts:
        assert mesh.checked.count(name, "failed") == 0
        assert mesh.installed.changed(name) - mesh.checked.changed(name) <= TOLD_OTHERWISE
        assert f"{name}: the agent would be started, now and at boot" in mesh.checked.said
    assert "host1: the catalog would be started, now and at boot" in mesh.checked.said
    assert "is said on host1, as root: nodeagent intention allow" in mesh.installed.said


def test_the_timers_curl_reaches_nginx_only_when_it_may(mesh: Mesh) -> None:
    """Denied by default, allowed by an intention of the inventory's, and nobody else with it."""
    shop, one = mesh.hosts["shop"], mesh.hosts["host1"]
    shop.enter("rm", "-f", "/run/shop.out")  # from before web was registered: then it was nobody's to guard
    eventually(lambda: "denied" in shop.messages("nodeagent.service"), 60, "the timer's curl is denied")
    assert not shop.path("/run/shop.out").exists()
    allowed = '{"nodeagent_intentions": [{"source": "shop", "destination": "web"}]}'
    assert mesh.controller.play("site", "--limit", "host1", "-e", allowed).count("host1", "changed") == 1
    eventually(lambda: shop.enter("cat", "/run/shop.out").stdout == "hello from web", 60, "the timer's curl arrives")
    assert one.run(f"curl -sS --max-time 20 http://{mesh.hosts['web'].address}:8080/", check=False).returncode != 0


def test_a_second_run_changes_nothing(mesh: Mesh) -> None:
    """Also with one host alone, which needs no other host's facts."""
    again = mesh.controller.play("site")
    assert dict.fromkeys(mesh.hosts, 0) == {name: again.count(name, "changed") for name in mesh.hosts}
    assert mesh.controller.play("site", "--limit", "shop", "--check").count("shop", "changed") == 0


def test_secrets_are_their_readers_alone(mesh: Mesh) -> None:
    """Tokens are nobody's but the agent's, and are in nothing that Ansible said."""
    for host in mesh.hosts.values():
        assert host.enter("stat", "--format=%a %U", "/etc/nodeagent/node.token").stdout == "400 nodeagent\n"
        secret = host.enter("cat", "/etc/nodeagent/node.token").stdout.strip()
        assert len(secret) > 20
        assert secret not in mesh.installed.said


def test_ssh_is_never_captured(mesh: Mesh) -> None:
    """A service that somebody registers at the port by which Ansible comes locks nobody out, whichever that is."""
    for host, port, why in ((mesh.hosts["shop"], 22, "never captured"), (mesh.hosts["web"], SSH_PORT, "in intercept.exclude_ports")):
        refused = host.enter("/opt/nodeagent/bin/nodeagent", "service", "register", host.name, "--port", str(port))
        assert (1, True) == (refused.returncode, why in refused.stderr)
    assert f"exclude_ports = [{SSH_PORT}]\n" in mesh.hosts["web"].enter("cat", "/etc/nodeagent/nodeagent.toml").stdout


def test_a_bad_setting_never_reaches_the_agent(mesh: Mesh, tmp_path: Path) -> None:
    """The installed version judges the file before it is put in place; the play says what is wrong with it."""
    web = mesh.hosts["web"]
    before = web.enter("cat", "/etc/nodeagent/nodeagent.toml").stdout
    failed = mesh.controller.play("site", "--limit", "web", "-e", '{"nodeagent_config": {"host": {"wrokers": 2}}}', status=2)
    assert "did you mean workers?" in failed.said
    assert before == web.enter("cat", "/etc/nodeagent/nodeagent.toml").stdout


def test_other_names_make_another_token_and_end_the_one_before(mesh: Mesh) -> None:
    """What the host may no more, nobody may in its name."""
    cart = '{"nodeagent_services": [{"name": "cart", "unit": "shop.service"}]}'
    checked = mesh.controller.play("site", "--limit", "shop", "--check", "-e", cart)
    assert mesh.controller.play("site", "--limit", "shop", "-e", cart).changed("shop") - checked.changed("shop") <= TOLD_OTHERWISE
    listed = mesh.hosts["host1"].run("runuser -u nodeagent-catalog -- /opt/nodeagent/bin/nodeagent catalog token list -o json").stdout
    names = [token["ServiceIdentities"] for token in json.loads(listed)["tokens"] if token["NodeIdentities"] == [{"NodeName": "shop"}]]
    assert [[{"ServiceName": "cart"}]] == names


def test_a_stopped_host_is_nobodys_to_expect_and_comes_back(mesh: Mesh) -> None:
    """It is not in the catalog meanwhile, so others call it as one that never had an agent."""
    nodes = 'curl -sS --fail --cacert {0}/tls-ca.pem https://{1}:8501/v1/catalog/nodes --header "X-Consul-Token: $(cat {0}/management.token)"'
    ask = nodes.format("/var/lib/nodeagent-catalog", mesh.hosts["host1"].address)
    for state, is_known in (("stopped", False), ("stopped", False), ("present", True)):
        played = mesh.controller.play("site", "--limit", "web", "-e", f"nodeagent_state={state}")
        known = {row["Node"] for row in json.loads(mesh.hosts["host1"].run(ask).stdout)}
        assert ("shop" in known, "web" in known) == (True, is_known)
        assert "stays in the catalog" not in played.said
    assert mesh.controller.play("site", "--limit", "web").count("web", "changed") == 0


def test_an_agent_that_systemd_has_given_up_starts_once_its_file_is_mended(mesh: Mesh) -> None:
    """At once: systemd by itself refuses for a minute, as it does on the host."""
    shop = mesh.hosts["shop"]
    shop.enter("sed", "--in-place", "s/^\\[host\\]$/[host]\\nwrokers = 2/", "/etc/nodeagent/nodeagent.toml")
    shop.enter("systemctl", "restart", "--no-block", "nodeagent.service")
    eventually(lambda: shop.show("nodeagent.service", "ActiveState") == "failed", 60, "systemd gives it up")
    assert shop.enter("systemctl", "start", "nodeagent.service").returncode == 1
    mesh.controller.play("site", "--limit", "shop", "--tags", "nodeagent_configure,nodeagent_run,nodeagent_verify")
    assert shop.show("nodeagent.service", "ActiveState") == "active"
