"""What counts as known."""

import pytest

from nodeagent import limits
from nodeagent.control.report import InstancePart, ServicePart, ServicesAnswer
from nodeagent.lab import agent, layout
from nodeagent.lab.errors import LabError
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


def test_one_that_never_knows_is_named_with_its_log_in_this_very_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose name is in the command."""
    monkeypatch.setattr(agent, "is_running", lambda _: True)
    monkeypatch.setattr(limits, "LAB_SETTLE_S", 0.0)
    state = LabState("no-such-lab", 99, 2, "strict", 2)
    with pytest.raises(LabError, match="see: nodeagent lab agent --name no-such-lab host1 logs"):
        wait_known(state, layout.hosts_of("no-such-lab", 99, 1)[0], "web", print)
