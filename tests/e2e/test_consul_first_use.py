"""With a real Consul and more services than an agent watches: the first connection to a new instance is not lost."""

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.consul import binary
from tests.e2e.support.lab import HTTP
from tests.e2e.support.policy import in_force
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

OTHERS = 140
"""More than are watched; of equals those stay watched that were there before."""
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def cluster(make_lab) -> Lab:
    """`shop` on host1 may call what is registered on a host without an agent so far."""
    lab: Lab = make_lab(hosts=2, workers=1, consul=binary())
    for number in range(OTHERS + 1):
        name = f"other{number:03}" if number < OTHERS else "zebra"
        service = {"ID": name, "Service": name, "Port": 1000 + number}
        lab.catalog("PUT", "/v1/catalog/register", {"Node": "rack", "Address": "10.99.0.1", "Service": service})
    operator(lab, "intention", "create", "shop", "zebra")
    for host in lab.state.members:
        eventually(lambda at=host: in_force(at) == {("shop", "zebra"): "allow"}, WITHIN_S, f"the intention on {host.name}")
        eventually(lambda at=host.name: "read in one answer" in str(look.status(lab, at)), WITHIN_S, f"more than are watched on {host.name}")
    return lab


def operator(lab: Lab, command: str, verb: str, *argv: str) -> str:
    """What Consul's own command line says on host2."""
    return lab.exec("host2", binary(), command, verb, "-token-file", "/etc/nodeagent/operator.token", *argv).stdout


def test_the_first_connection_goes_through_the_tunnel(cluster: Lab, capture, canary: str) -> None:
    """At once after Consul's own command line has registered it on the other host; certificates are Connect's."""
    cluster.run("host2", "zebra", [*HTTP, "9000"])
    wire: Wire = capture(cluster)
    assert "Registered service: zebra" in operator(cluster, "services", "register", "-name", "zebra", "-port", "9000")
    url = f"http://{cluster.host('host2').ipv4}:9000/"
    done = cluster.exec("host1", "curl", "-s", "-m", "10", "-H", f"X-Canary: {canary}", url, service="shop")
    assert "Directory listing" in done.stdout, look.log_lines(cluster, "host1")[-1:]
    (row,) = look.closed(cluster, "host1", 1, destination="zebra")
    assert (row["path"], row["peer"], row["permit"]) == ("tunnel", "host2", "shop -> zebra (allow)")
    wire.assert_never_in_clear(canary)
