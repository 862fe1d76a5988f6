"""Which service a process speaks as."""

import pytest

from nodeagent.decide.identify import service_of
from nodeagent.model.workload import NOBODY, Workload
from tests.support.mesh import mesh

RULES = """
[[workload]]
selector = "systemd:id:nightly.service"
service = "report"
[[workload]]
selector = "unix:uid:1001"
service = "batch"
"""


@pytest.mark.parametrize(
    ("units", "unit", "service"),
    [
        ('"registered"', "shop.service", "shop"),
        ('"registered"', "web.service", ""),
        ('"registered"', "ghost.service", ""),
        ('"any"', "ghost.service", "ghost"),
        ('"any"', "*.service", ""),
        ('"any"', ".service", ""),
        ('"any"', "shop.socket", ""),
        ('"any"', "shop", ""),
        ('"any"', "", ""),
        ('["cron"]', "cron.service", "cron"),
        ('["cron.service"]', "cron.service", "cron"),
        ('["cron"]', "shop.service", ""),
        ("[]", "shop.service", ""),
    ],
)
def test_a_unit_speaks_by_its_name_as_far_as_the_configuration_lets_it(units: str, unit: str, service: str) -> None:
    """Registered on this host, any, or listed; a name that no service can have is nobody's."""
    snapshot = mesh(extra=f"[identity]\nunits = {units}\n")
    assert service == service_of(snapshot, Workload(unit=unit, how="stamp"))


@pytest.mark.parametrize(
    ("workload", "service"),
    [
        (Workload("nightly.service", how="stamp"), "report"),
        (Workload("", 1001, "conntrack"), "batch"),
        (Workload("shop.service", 1001, "conntrack"), "batch"),
        (Workload("nightly.service", 1001, "conntrack"), "report"),
        (Workload("shop.service", 1002, "conntrack"), "shop"),
        (Workload("", 0, "conntrack"), ""),
        (NOBODY, ""),
    ],
)
def test_rules_come_first_and_the_first_that_matches_decides(workload: Workload, service: str) -> None:
    """A rule beats the unit's own name; who matches nothing is unidentified."""
    assert service == service_of(mesh(extra=RULES), workload)
