"""Looking at the routing of this machine."""

from nodeagent.probe import routing
from tests.unit.nodeagent.probe.scene import scope


def test_interfaces_of_this_machine() -> None:
    """Loopback has no check."""
    assert "lo" not in [path.interface for path in routing.reverse_path(scope())]


def test_addresses_that_this_host_has_not() -> None:
    """Of the two configured, one is loopback's and one is for documents."""
    assert routing.addresses(scope()) == routing.Addresses(("192.0.2.1",), 2)
    assert routing.addresses(scope(config=None)) is None
