"""The catalog comes back as it was an hour ago: its agents say so, and what was registered since stays protected meanwhile."""

import shutil

import pytest

from nodeagent.lab import catalog
from tests.e2e.catalog_process import READY_S
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.unit import Unit
from tests.e2e.test_catalog_snapshot import snapshot_command
from tests.support.eventually import eventually

API, WEB = 9090, 8080


def warnings(lab, host):
    return " ".join(look.status(lab, host)["warnings"])


def replace_catalog(lab, snapshot):
    """The catalog's directory is lost; another begins with the snapshot, and with the token that the lab's commands use."""
    data = catalog.data_directory(lab.state.hub)
    token = catalog.management_token(lab.state.hub)
    lab.stop_catalog()
    shutil.rmtree(data)
    done = snapshot_command(data, "restore", snapshot, "--yes")
    assert done.returncode == 0, done.stderr
    (data / "management.token").write_text(token)
    (data / "management.token").chmod(0o600)
    lab.start_catalog()


def restore_beside(lab, snapshot):
    """Under the hands of the running catalog."""
    done = snapshot_command(catalog.data_directory(lab.state.hub), "restore", snapshot, "--yes")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("restore", "told"), [(replace_catalog, "the catalog's index went back"), (restore_beside, "the catalog's data went back")]
)
def test_an_older_catalog_is_named_by_every_agent_and_leaves_no_port_open(make_lab, tmp_path, restore, told):
    """`api` was registered, and denied, after the snapshot: its port is not one where nobody is registered."""
    lab = make_lab()
    with App(lab, "host2", "web", WEB), Unit(lab, "host1", "shop") as shop:
        address = lab.host("host2").ipv4
        set_intentions(lab, {("shop", "web"): "allow"})
        assert snapshot_command(catalog.data_directory(lab.state.hub), "save", tmp_path / "one").returncode == 0
        with App(lab, "host2", "api", API):
            set_intentions(lab, {("shop", "web"): "allow", ("*", "api"): "deny"})
            assert call(shop, address, API, "x") in ("reset", "closed")
            restore(lab, tmp_path / "one")
            for host in ("host1", "host2"):
                eventually(lambda at=host: told in warnings(lab, at), READY_S, f"{host} says so")
                eventually(lambda at=host: "api: 1 of 1 instances vanished at once; kept" in warnings(lab, at), READY_S, f"{host} keeps it")
            assert call(shop, address, API, "x") in ("reset", "closed")
            assert call(shop, address, WEB, "web") == "app:web"
