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


def test_what_networkd_deletes() -> None:
    """By default everything foreign; the last word of the files counts, spelled as systemd takes it."""
    rules, routes = "ManageForeignRoutingPolicyRules", "ManageForeignRoutes"
    assert routing.deleting([]) == (rules, routes)
    assert routing.deleting([f"[Network]\n{rules}=yes\n", f"[Network]\n {rules} = no\n#{routes}=no\n"]) == (routes,)
    assert routing.deleting([f"{rules}=0\n{routes}=off\n"]) == ()


def test_networkd_elsewhere_is_no_concern() -> None:
    """It counts only in this network namespace."""
    found = routing.networkd(scope())
    assert found is None or isinstance(found, routing.Networkd)
