"""Judgements on the machine, each with what makes it."""

from dataclasses import replace

import pytest

from nodeagent import limits
from nodeagent.diagnose import host
from nodeagent.diagnose.facts import (
    AgentState,
    ConfigFile,
    Descriptors,
    FileState,
    Memory,
    PortUse,
    Programs,
    Room,
    StartLink,
)
from tests.unit.nodeagent.diagnose.verdicts import only, shown

TOKEN = FileState("/etc/nodeagent/node.token", "the token", 0o400, "nodeagent", is_secret=True, reader="nodeagent")
ROOM = Room("/var/lib/nodeagent", owner_uid=990, wanted_uid=990, free_bytes=limits.STATE_ROOM_BYTES * 100, free_inodes=9)


def test_the_agents_own_word_is_passed_on() -> None:
    """Its problems are failures, its warnings are to be looked at."""
    said = AgentState(version="1.0", problems=("no worker is serving",), warnings=("worker 1 is late",))
    assert [level for level, _, _ in shown(host.judge_agent(said))] == ["failed", "warning"]
    assert [level for level, _, _ in shown(host.judge_agent(replace(said, problems=())))] == ["warning", "ok"]


def test_an_agent_that_does_not_answer_has_failed() -> None:
    """With systemd's command."""
    level, text, cure = only(host.judge_agent(AgentState(error="nobody listens there")))
    assert (level, text) == ("failed", "nobody listens there")
    assert "systemctl status nodeagent" in cure
    assert only(host.judge_agent(AgentState(error="nobody listens there", cure="start it")))[2] == "start it"


def test_a_configuration_that_cannot_be_used_has_failed() -> None:
    """In the parser's words."""
    assert only(host.judge_config(ConfigFile("/etc/x", "host.mode: no such mode")))[:2] == ("failed", "host.mode: no such mode")
    assert only(host.judge_config(ConfigFile("/etc/x")))[0] == "ok"


def test_a_library_that_cannot_be_loaded_is_named() -> None:
    """Each on its own."""
    assert "ngh2" in only(host.judge_programs(Programs("3.11", ("ngh2 (No module named 'ngh2')",))))[1]
    assert only(host.judge_programs(Programs("3.11")))[0] == "ok"


def test_programs_that_only_root_can_run_are_named() -> None:
    """With what opens them: control and the workers have users of their own."""
    found = only(host.judge_programs(Programs("3.11", closed="/root")))
    assert (found[0], "/root" in found[1], "umask 022" in found[2]) == ("failed", True, True)


def test_users_that_are_missing() -> None:
    """As systemd makes them."""
    assert only(host.judge_users("there is no user 'nodeagent'")) == ("failed", "there is no user 'nodeagent'", "systemd-sysusers")
    assert only(host.judge_users(""))[0] == "ok"


@pytest.mark.parametrize(
    ("file", "level", "cure"),
    [
        (TOKEN, "ok", ""),
        (replace(TOKEN, mode=0o440), "failed", "chmod 0400 "),
        (replace(TOKEN, mode=0o604), "failed", "chmod 0600 "),
        (replace(TOKEN, mode=None), "failed", "put it there, readable by nodeagent alone"),
        (replace(TOKEN, mode=None, is_needed=False), "ok", ""),
        (replace(TOKEN, is_readable=False, owner="root"), "failed", "chown nodeagent "),
        (replace(TOKEN, is_foreign=True, owner="mallory"), "failed", "chown nodeagent "),
        (replace(TOKEN, is_secret=False, mode=0o644), "ok", ""),
        (replace(TOKEN, is_secret=False, mode=0o664), "failed", "chmod go-w "),
    ],
)
def test_a_file(file: FileState, level: str, cure: str) -> None:
    """Secrets are closed, and nobody else may change what the agent believes."""
    found = only(host.judge_files((file,)))
    assert found[0] == level
    assert found[2].startswith(cure)


@pytest.mark.parametrize(
    ("room", "level", "text"),
    [
        (ROOM, "ok", "can be written"),
        (replace(ROOM, exists=False), "failed", "does not exist"),
        (replace(ROOM, is_read_only=True), "failed", "read-only"),
        (replace(ROOM, owner_uid=0), "failed", "belongs to uid 0"),
        (replace(ROOM, is_closed_to_root=True), "warning", "identity.persist keeps no keys"),
        (replace(ROOM, free_bytes=limits.STATE_ROOM_BYTES - 1), "failed", "is full"),
        (replace(ROOM, free_inodes=0), "failed", "is full"),
        (replace(ROOM, free_bytes=limits.STATE_ROOM_BYTES * 2), "warning", "nearly full"),
    ],
)
def test_the_state_directory(room: Room, level: str, text: str) -> None:
    """What must survive a restart has its place."""
    found = only(host.judge_room(room))
    assert found[0] == level
    assert text in found[1]


def test_a_port_that_somebody_else_holds() -> None:
    """Named with its holder."""
    ports = (PortUse(15001, "process 7 (nodeagent)", is_ours=True), PortUse(15006, "process 9 (envoy)"))
    assert only(host.judge_ports(ports))[:2] == ("failed", "port 15006 is held by process 9 (envoy)")
    assert only(host.judge_ports(ports[:1]))[1] == "ports 15001 are the agent's"
    hung = [PortUse(port, f"process {port} (python3)", is_of_nodeagent=True) for port in (15001, 15020)]
    assert only(host.judge_ports((*hung,))) == (
        "failed",
        "nodeagent hangs: its own processes hold ports and do not answer (15001 by process 15001 (python3), 15020 by process 15020 (python3))",
        "systemctl restart nodeagent",
    )
    assert only(host.judge_ports((PortUse(15001, ""),)))[1] == "ports 15001 are free"


def test_an_agent_that_was_not_asked_does_not_hang() -> None:
    """Nobody is told to restart it."""
    held = [PortUse(port, "process 7 (nodeagent)", is_of_nodeagent=True, silence="unasked") for port in (15001, 15006)]
    level, text, cure = only(host.judge_ports((*held,)))
    assert (level, text) == ("warning", "ports 15001, 15006 are held by an agent that was not asked: another socket is named")
    assert "restart" not in cure


def test_memory_runs_short() -> None:
    """Below the limit it is said."""
    assert only(host.judge_memory(Memory(limits.MEMORY_LOW_BYTES - 1, 2**33)))[0] == "warning"
    assert only(host.judge_memory(Memory(limits.MEMORY_LOW_BYTES, 2**33)))[0] == "ok"


@pytest.mark.parametrize(
    ("files", "levels"),
    [
        (Descriptors(10, 1000), ["ok"]),
        (Descriptors(801, 1000), ["failed"]),
        (Descriptors(10, 1000, of_agent=1024), ["warning"]),
        (Descriptors(801, 1000, of_agent=1024), ["failed", "warning"]),
        (Descriptors(10, 1000, of_agent=2 * limits.CONNECTIONS_PER_WORKER), ["ok"]),
    ],
)
def test_open_files(files: Descriptors, levels: list[str]) -> None:
    """Of the machine, and of a worker."""
    assert [level for level, _, _ in shown(host.judge_descriptors(files))] == levels


def test_ports_that_systemd_keeps_or_only_root_sees_are_not_said_to_be_anothers() -> None:
    """Nobody is told to end systemd, nor the agent."""
    kept = [PortUse(port, "process 1 (systemd)", is_kept=True) for port in (15001, 15006)]
    unseen = PortUse(15008, "another process", is_unseen=True)
    found = shown(host.judge_ports((*kept, unseen)))
    assert [each[:2] for each in found] == [
        ("warning", "ports 15001, 15006 are held by systemd, as for an agent that is to start again"),
        ("warning", "ports 15008 are held, by whom only root can see"),
    ]


@pytest.mark.parametrize(
    ("link", "level", "text", "cure"),
    [
        (StartLink("/o/current", "2.0", is_whole=True), "ok", "2.0 starts next", ""),
        (StartLink("/o/current", "2.0", False, ("1.0", "1.1"), "1.1"), "failed", "leads to 2.0, where no program is", "ln -sfn versions/1.1 /o/current"),
        (StartLink("/o/current", "", False, ("1.0", "1.1")), "failed", "/o/current is missing", "ln -sfn versions/VERSION /o/current"),
        (StartLink("/o/current", "2.0", False), "failed", "installed: none", "install nodeagent anew"),
    ],
)  # fmt: skip
def test_the_link_by_which_the_agent_starts(link: StartLink, level: str, text: str, cure: str) -> None:
    """To the version that runs, where that is known."""
    found = only(host.judge_start_link(link))
    assert (found[0], found[2]) == (level, cure)
    assert text in found[1]


def test_ports_that_a_labs_store_keeps_are_no_hung_agents() -> None:
    """Its supervisor was killed, and whoever starts the next one finds them there."""
    kept = PortUse(15001, "process 7 (python3)", is_kept=True, is_in_lab=True)
    assert only(host.judge_ports((kept,))) == (
        "warning", "ports 15001 are held by the lab's store of descriptors, for an agent that is to start again", "systemctl restart nodeagent"
    )  # fmt: skip


def test_an_agent_that_is_replacing_itself_does_not_hang() -> None:
    """A restart would cut short what loses nothing."""
    held = [PortUse(port, "process 7 (nodeagent)", is_of_nodeagent=True, silence="settling") for port in (15001, 15006)]
    level, text, cure = only(host.judge_ports((*held,)))
    assert (level, text) == ("warning", "ports 15001, 15006 are held by an agent that starts, or is just replacing itself (a reload)")
    assert cure == "ask again: nodeagent check --wait 30"
