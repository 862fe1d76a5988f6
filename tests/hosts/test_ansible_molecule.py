"""The Molecule scenario that ships with the collection."""

from pathlib import Path

import pytest

from tests.hosts.support.controller import Controller
from tests.hosts.support.dist import dist
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.image import ROOT

pytestmark = pytest.mark.timeout(600)


def test_the_scenario_runs_from_syntax_to_cleanup(hosts: Hosts, tmp_path: Path) -> None:
    """Converge, once more without a change, verify, and nothing stays."""
    options = " ".join(hosts.hub.ssh_options)
    with hosts.up("molecule") as host, Controller(hosts, tmp_path) as controller:
        where = {"NODEAGENT_HOST": host.address, "NODEAGENT_SSH": options, "NODEAGENT_DIST": str(dist())}
        controller.run("molecule", "test", cwd=ROOT / "ansible/extensions", **where)
        assert not host.path("/opt/nodeagent").exists()
