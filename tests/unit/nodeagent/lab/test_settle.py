"""What counts as known."""

from nodeagent.control.report import InstancePart, ServicePart, ServicesAnswer
from nodeagent.lab import layout
from nodeagent.lab.settle import has_instance, wait_known
from nodeagent.lab.state import LabState


def test_the_instance_on_that_host_counts() -> None:
    """The same service elsewhere was there before."""
    instance = InstancePart(id="web", host="host1", addresses=[], healthy=True, is_local=True, is_meshed=True)
    part = ServicePart(name="web", protocol="tcp", mode="strict", instances=[instance], intentions=[])
    answer = ServicesAnswer(generation=1, services=[part], wildcards=[])
    assert has_instance(answer, "web", "host1")
    assert not has_instance(answer, "web", "host2")
    assert not has_instance(answer, "shop", "host1")


def test_hosts_without_agent_are_not_waited_for() -> None:
    """They never know anything."""
    state = LabState("no-such-lab", 99, 2, "strict", 2)
    wait_known(state, layout.hosts_of("no-such-lab", 99, 1)[0], "web", print)
