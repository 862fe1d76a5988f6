"""The agents of a lab; started for real in tests/e2e/test_lab.py."""

from nodeagent.lab import agent, layout


def test_a_host_whose_agent_was_never_started_has_none() -> None:
    """Neither running nor a supervisor."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    assert not agent.is_running(host)
    assert agent.try_supervisor(host) is None
