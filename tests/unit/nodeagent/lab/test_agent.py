"""The agents of a lab; started for real in tests/e2e/test_lab.py."""

from pathlib import Path

import pytest

from nodeagent.control.generations import Reloaded
from nodeagent.lab import agent, layout
from nodeagent.lab.errors import LabError
from nodeagent.lab.state import Holder
from tests.support.status_of import status_of


def test_a_host_whose_agent_was_never_started_has_none() -> None:
    """Neither running nor a supervisor."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    assert not agent.is_running(host)
    assert agent.try_supervisor(host) is None


@pytest.mark.parametrize("act", [lambda host: agent.reload_agent(host, print), lambda host: agent.crash_agent(host, Holder(1, 1))])
def test_what_needs_an_agent_says_how_to_start_one(act) -> None:
    """With the lab's name, and no number of the kernel's."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    with pytest.raises(LabError) as caught:
        act(host)
    assert str(caught.value) == "no agent runs on host1; start it: nodeagent lab agent --name no-such-lab host1 start"


@pytest.mark.parametrize(
    ("names", "running", "left", "does"),
    [
        ((), False, True, "rules"), (("nodeagent-sentr",), False, True, "rules"), (("nodeagent-w1", "nodeagent-sentr", "nodeagent-w12", ""), True, True, "runs"),
        (("nodeagent", "nodeagent-w1"), True, False, "runs already"), (("python3", "nodeagent-w1"), True, False, "runs already"),
    ],
)  # fmt: skip
def test_workers_that_finish_what_they_carry_are_no_agent_that_runs(
    names: tuple[str, ...], does: str, monkeypatch: pytest.MonkeyPatch, *, running: bool, left: bool
) -> None:
    """Their supervisor is gone: `start` starts the next, as systemd would. Rules are put in place where nobody lives."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    done: list[str] = []
    monkeypatch.setattr(agent.cgroup, "pids", lambda _: range(len(names)))
    monkeypatch.setattr(agent, "_name", lambda pid: names[pid])
    monkeypatch.setattr(agent, "_run", lambda *_: done.append("runs") or 7)
    monkeypatch.setattr(agent.cgroup, "make_afresh", lambda _: done.append("rules"))
    monkeypatch.setattr(agent, "_keep_descriptors", lambda _: None)
    monkeypatch.setattr(agent.enter, "in_cgroup", lambda *_: [])
    monkeypatch.setattr(agent.enter, "run_tool", lambda *_, **__: "")
    try:
        assert agent.start_agent(host, Holder(1, 1)) == 7
    except LabError as error:
        done.append("runs already" if "runs already" in str(error) else str(error))
    assert (agent.is_running(host), agent.is_left(host), done[0]) == (running, left, does)


def test_an_agent_that_ended_is_told_by_what_it_said_since_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by what the one before said."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    log = tmp_path / "nodeagent.log"
    log.write_text("of before\nError: bad\n")
    monkeypatch.setattr(layout.Host, "log", lambda *_: log)
    with pytest.raises(LabError) as caught:
        agent.wait_healthy([host], print, len("of before\n"))
    assert str(caught.value) == "the agent on host1 ended; its log ends:\n  Error: bad"


def test_rules_that_are_refused_are_told_without_our_own_machinery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as a reader knows it, and where the host's files are; nothing is left that holds descriptors."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    dropped: list[object] = []

    def refuse(*_: object, name: str, **__: object) -> str:
        raise LabError(f"`{name}` failed (1): Error: bad mode")

    monkeypatch.setattr(agent.cgroup, "make_afresh", lambda _: None)
    monkeypatch.setattr(agent.enter, "in_cgroup", lambda _, argv: argv)
    monkeypatch.setattr(agent, "_keep_descriptors", lambda _: None)
    monkeypatch.setattr(agent, "_drop_descriptors", dropped.append)
    monkeypatch.setattr(agent.enter, "run_tool", refuse)
    with pytest.raises(LabError) as caught:
        agent.start_agent(host, Holder(1, 1))
    assert str(caught.value) == (
        "the agent on host1 was not started: `nodeagent intercept apply --config /etc/nodeagent/nodeagent.toml` failed (1): Error: bad mode"
        " (on this machine its /etc/nodeagent is /run/nodeagent-lab/no-such-lab/host1/etc)"
    )
    assert dropped == [host]


def test_a_reload_that_cannot_be_asked_for_or_is_refused_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """While control has just been started; and with the lab's commands in the place of systemd's."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    monkeypatch.setattr(agent, "is_running", lambda _: True)
    monkeypatch.setattr(agent, "ask_agent", lambda *_: status_of(0, "1"))
    with pytest.raises(LabError, match="control on host1 has not heard of its supervisor yet; nothing was reloaded, try again"):
        agent.reload_agent(host, print)
    monkeypatch.setattr(agent, "ask_agent", lambda *_: status_of(1, "1"))
    monkeypatch.setattr(agent, "_look_at_reload", lambda *_: Reloaded("refused", "put it back, or: systemctl restart nodeagent"))
    monkeypatch.setattr(agent.os, "kill", lambda *_: None)
    with pytest.raises(LabError, match="put it back, or: nodeagent lab agent --name no-such-lab host1 restart"):
        agent.reload_agent(host, print)
