"""What is known of services."""

from nodeagent.model.address import Address
from nodeagent.model.service import Instance, Service
from nodeagent.model.traffic import Traffic


def test_a_service_is_where_an_instance_is() -> None:
    """Whatever its health."""
    web = Service("web", instances=(Instance("web-1", "host2", (Address("10.77.0.2", 80),), healthy=False),))
    assert (True, False) == (web.is_on("host2"), web.is_on("host1"))


def test_a_service_is_routed_where_something_leads_its_requests() -> None:
    """Whatever it speaks."""
    said = Service("web"), Service("web", traffic=Traffic()), Service("web", traffic=Traffic(balance_dialled=True))
    assert [False, False, True] == [service.is_routed for service in said]
