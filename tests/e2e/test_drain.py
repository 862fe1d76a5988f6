"""A host that takes no new work: nothing is cut, everybody is told, and it lasts until its operator ends it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from nodeagent.lab import catalog
from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.echo import Echo, answers, speaks
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

pytestmark = pytest.mark.usefixtures("tunnels_only")

WEB = 8080
UNREACHABLE, TIMEOUT = 3, 5


class Site(NamedTuple):
    """`web` on host2, and who calls it."""

    lab: Lab
    shop: Unit
    local: Unit
    address: tuple[str, int]

    def run(self, *command: str) -> tuple[int, str, str]:
        """A command on host2."""
        done = self.lab.exec("host2", "nodeagent", *command)
        return done.returncode, done.stdout, done.stderr

    def instance(self, host: str) -> dict[str, Any]:
        """`web`, as a host's agent holds it."""
        (web,) = [each for each in look.ask(self.lab, host, "services")["services"] if each["name"] == "web"]
        (found,) = web["instances"]
        return dict(found)

    def wait(self, *, drained: bool) -> None:
        """Both agents know."""
        for host in ("host1", "host2"):
            eventually(lambda at=host: self.instance(at)["drained"] is drained, look.WITHIN_S, f"drained is {drained} on {host}")


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Site]:
    """Both may call."""
    with ExitStack() as stack:
        web = stack.enter_context(Unit(lab, "host2", "web"))
        stack.enter_context(Echo(web.listen("::", WEB)))
        lab.register("host2", "web", WEB)
        look.allow(lab, "shop", "web")
        units = [stack.enter_context(Unit(lab, host, "shop")) for host in ("host1", "host2")]
        yield Site(lab, *units, (lab.host("host2").ipv4, WEB))


@pytest.fixture(autouse=True)
def back_at_work(site: Site) -> Iterator[None]:
    """After each test."""
    yield
    assert site.run("undrain")[0] == 0
    site.wait(drained=False)


def test_everybody_is_told_and_nobody_is_cut(site: Site) -> None:
    """Callers that dial this very instance are answered, before and after; balancers see it as Consul shows it."""
    with site.shop.connect(*site.address) as before:
        assert speaks(before, b"before")
        assert site.run("drain", "--reason", "new disk") == (0, "drained: host2 takes no new work\n", "")
        assert site.run("drain", "--reason", "new disk")[0] == 0
        site.wait(drained=True)
        assert speaks(before, b"still")
    assert answers(site.shop, site.address, b"new")
    assert answers(site.local, site.address, b"local")
    (row,) = site.lab.catalog("GET", "/v1/health/service/web")
    assert [(c["CheckID"], c["Status"], c["Notes"]) for c in row["Checks"]] == [("_node_maintenance", "critical", "new disk")]
    assert site.lab.catalog("GET", "/v1/health/service/web?passing=1") == []
    assert "nodeagent undrain" in "".join(look.status(site.lab, "host2")["warnings"])
    assert look.status(site.lab, "host2")["healthy"]
    assert "meshed, drained" in site.lab.exec("host1", "nodeagent", "services").stdout


def test_it_outlives_the_agent_and_what_is_registered_later_is_drained_too(site: Site) -> None:
    """Kept by the catalog, and not by the agent."""
    assert site.run("drain")[0] == 0
    site.wait(drained=True)
    site.lab.stop_agent("host2")
    site.lab.start_agent("host2")
    site.wait(drained=True)
    site.lab.register("host2", "late", 8085)
    try:
        (row,) = site.lab.catalog("GET", "/v1/health/service/late")
        assert len(row["Checks"]) == 1
    finally:
        assert site.run("service", "deregister", "late")[0] == 0


def test_waiting_tells_what_is_open_and_ends_with_the_last_of_it(site: Site) -> None:
    """Connections of this host's own services are not waited for."""
    with site.local.connect(*site.address) as local:
        assert speaks(local, b"local")
        with site.shop.connect(*site.address) as remote:
            assert speaks(remote, b"remote")
            status, _, said = site.run("drain", "--wait", "1")
            assert status == TIMEOUT
            assert "1 connections from other hosts are open, to web" in said
            waiting = site.lab.popen("host2", ["nodeagent", "drain", "--wait", "300"], stdout=-1, stderr=-1, text=True)
            assert waiting.stderr is not None
            assert "1 connections from other hosts are open" in waiting.stderr.readline()
        out, _ = waiting.communicate(timeout=60)
        assert (waiting.returncode, out.splitlines()[-1]) == (0, "no connection from another host is open")
        assert speaks(local, b"local")


def test_a_host_may_not_drain_another(site: Site) -> None:
    """Its token is for itself alone."""
    token = site.lab.node_token("host1")
    done = site.lab.exec("host2", "env", f"CONSUL_HTTP_TOKEN={token}", "nodeagent", "drain")
    assert done.returncode == 1
    assert "may not change host2" in done.stderr
    assert not site.instance("host2")["drained"]


def test_a_catalog_that_is_away_is_said_and_nothing_is_changed(site: Site) -> None:
    """Nor while the agent does not answer, where it is to be waited for."""
    hub = site.lab.state.hub
    look.kill_catalog(site.lab)
    try:
        status, out, said = site.run("drain")
    finally:
        catalog.start_catalog(hub, site.lab.state.holder(hub))
    assert (status, out) == (UNREACHABLE, "")
    assert "nobody listens there; is the catalog running?" in said
    assert site.run("drain", "--wait", "1", "--socket", "/nowhere/sock")[0] == UNREACHABLE
    assert json.dumps(site.lab.catalog("GET", "/v1/health/node/host2")) == "[]"
