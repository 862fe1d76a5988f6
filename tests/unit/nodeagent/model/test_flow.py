"""What connections that go the same way have in common."""

from nodeagent.model.flow import Flow


def test_alike_connections_are_one_flow() -> None:
    """It is a key; whatever tells two apart is a field of it."""
    one = Flow("outbound", "shop", "web", "10.77.0.2:80", "host2")
    assert {one: 1}[Flow("outbound", "shop", "web", "10.77.0.2:80", "host2")] == 1
    assert one != Flow("outbound", "cart", "web", "10.77.0.2:80", "host2")
