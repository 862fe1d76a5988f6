"""What is known of services."""

from nodeagent.model.address import Address
from nodeagent.model.service import Instance, Service


def test_a_service_is_where_an_instance_is() -> None:
    """Whatever its health."""
    web = Service("web", instances=(Instance("web-1", "host2", (Address("10.77.0.2", 80),), healthy=False),))
    assert (True, False) == (web.is_on("host2"), web.is_on("host1"))
