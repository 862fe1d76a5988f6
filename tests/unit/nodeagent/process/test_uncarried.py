"""Which connections go around the agent, told from sockets alone."""

import pytest

from nodeagent.process.sock_diag import Listed, Row
from nodeagent.process.uncarried import Place, Uncarried, find_uncarried
from redirect.flow import Flow

HERE, THERE, LOOP = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x7f\0\0\1"
AGENT, APP = 7, 9
SERVICES = {Place(THERE, 80): "web", Place(HERE, 5432): "db"}
LOCAL = frozenset({Place(HERE, 5432)})
CALL = Flow(HERE, 40000, THERE, 80)
SERVED = Flow(HERE, 5432, THERE, 50000)
INSIDE, INSIDE_SERVED = Flow(HERE, 41000, HERE, 5432), Flow(HERE, 5432, HERE, 41000)


def seen(flow: Flow, cgroup_id: int, state: int = 1) -> Listed:
    return Listed(flow, Row(state, 1000, 1, cgroup_id))


@pytest.mark.parametrize(
    ("sockets", "expected"),
    [
        ((seen(CALL, APP),), (Uncarried("outbound", CALL, "web", APP),)),
        ((seen(CALL, APP), seen(Flow(LOOP, 15001, HERE, 40000), AGENT)), ()),  # redirected
        ((seen(SERVED, APP),), (Uncarried("inbound", SERVED, "db", APP),)),
        ((seen(SERVED, APP), seen(Flow(THERE, 50000, HERE, 5432), AGENT)), ()),  # the agent called, as the caller
        ((seen(INSIDE, APP), seen(INSIDE_SERVED, APP)), (Uncarried("outbound", INSIDE, "db", APP),)),
        ((seen(CALL, APP, state=8),), ()),  # is ending
        ((seen(Flow(HERE, 40000, THERE, 81), APP),), ()),  # no service's
        ((seen(Flow(LOOP, 40000, LOOP, 5432), APP),), ()),
        ((seen(Flow(HERE, 40001, THERE, 80), AGENT),), ()),  # the agent's own
    ],
)
def test_a_socket_of_a_service_without_the_agents_mirror_is_uncarried(
    sockets: tuple[Listed, ...], expected: tuple[Uncarried, ...]
) -> None:
    """Outbound, inbound, and once for a call from the host to itself; what the agent carries is never named."""
    assert find_uncarried(sockets, SERVICES, LOCAL, {AGENT}) == expected


def test_another_callers_tunnel_carries_nobody_else() -> None:
    """The agent calls the same service for one caller; another one's old connection is still named."""
    old = Flow(HERE, 5432, THERE, 50001)
    sockets = (seen(SERVED, APP), seen(Flow(THERE, 50000, HERE, 5432), AGENT), seen(old, APP))
    assert find_uncarried(sockets, SERVICES, LOCAL, {AGENT}) == (Uncarried("inbound", old, "db", APP),)
