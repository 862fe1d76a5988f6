"""The oldest Ansible that the collection claims to be for; all other tests run with the newest."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.hosts.support.controller import Controller
from tests.hosts.support.dist import dist
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.image import ROOT, run

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def oldest(tmp_path: Path) -> Path:
    """Where the programs of that version are."""
    claimed = yaml.safe_load((ROOT / "ansible/meta/runtime.yml").read_text())["requires_ansible"].removeprefix(">=")
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    run(str(tmp_path / "venv/bin/pip"), "install", "--quiet", f"ansible-core=={claimed}")
    said = subprocess.run([tmp_path / "venv/bin/ansible", "--version"], text=True, capture_output=True, check=True).stdout
    assert said.startswith(f"ansible [core {claimed}]")
    return tmp_path / "venv/bin"


def test_a_host_is_installed_changed_and_taken_out(hosts: Hosts, oldest: Path, tmp_path: Path) -> None:
    """Check mode, the first run, one that changes nothing, a reload, one that is refused, and the end of it."""
    with hosts.up("old") as host, Controller(hosts, tmp_path / "controller", oldest) as controller:
        listen = f"{host.address}:8501"
        variables = {
            "nodeagent_dist": str(dist()), "nodeagent_catalog_address": f"https://{listen}", "nodeagent_catalog_listen": listen,
            "nodeagent_services": [{"name": "web", "unit": "nginx.service", "port": 8080}],
        }  # fmt: skip
        controller.inventory({"nodeagent_catalog": [host], "nodeagent": [host]}, {"all": variables})
        controller.play("site", "--check", "--diff")
        controller.play("site")
        assert controller.play("site").count("old", "changed") == 0
        pid = host.show("nodeagent.service", "MainPID")
        controller.play("site", "-e", '{"nodeagent_config": {"host": {"workers": 1}}}')
        refused = '{"nodeagent_config": {"admin": {"write_group": "nobody-at-all"}}}'
        assert "there is no group 'nobody-at-all'" in controller.play("site", "-e", refused, status=2).said
        assert pid == host.show("nodeagent.service", "MainPID")
        controller.play("uninstall", "-e", '{"nodeagent_purge": true}')
        assert not host.path("/opt/nodeagent").exists()
