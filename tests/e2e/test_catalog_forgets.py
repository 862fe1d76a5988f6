"""What the embedded catalog forgets for a moment stays in the mesh: strict traffic does not leave in clear, and no protected port opens."""

import time

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support.called import WATCHED_S, WITHIN_S, Called
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def site(lab: Lab) -> Called:
    return Called(lab)


def shown(site: Called) -> set[str]:
    """Which hosts the catalog shows."""
    return {row["Node"] for row in site.lab.catalog("GET", "/v1/catalog/nodes")}


def test_a_service_that_its_operator_deregisters_is_called_by_nobody_in_clear(site: Called, capture, canary: str) -> None:
    """On its own host its port is nobody's from then on, without an alarm; who called it is refused for a while."""
    wire = capture(site.lab)
    assert site.lab.exec("host2", "nodeagent", "service", "deregister", "web").returncode == 0
    eventually(lambda: site.call("hub") == {"200"}, WITHIN_S, "the port is open to a host without an agent")
    for service in ("shop", "evil"):
        assert [site.call("host1", service, canary) for _ in range(5)] == [{"000"}] * 5
    assert "web" not in site.status("host1") + site.status("host2")
    wire.assert_never_in_clear(canary)
    site.lab.register("host2", "web", 8080)
    eventually(lambda: site.call("host1", "shop") == {"200"}, WITHIN_S, "it is called again")


def test_a_host_that_somebody_takes_out_of_the_catalog(site: Called, capture, canary: str) -> None:
    """Its agent puts the host back at once, which proves nothing; its services are nobody's to put back but its operator's."""
    with site.calling(capture(site.lab), canary):
        site.lab.catalog("PUT", "/v1/catalog/deregister", {"Node": "host2"})
        eventually(lambda: "host2" in shown(site), WITHIN_S, "it is there again")
        eventually(lambda: "web: the catalog has forgotten that it runs on this host" in site.status("host2"), WITHIN_S, "the alarm")
        time.sleep(WATCHED_S)
        site.lab.register("host2", "web", 8080)
        eventually(lambda: "web: the catalog has forgotten" not in site.status("host2"), WITHIN_S, "no alarm any more")
