"""Looking at this very machine."""

import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from nodeagent.control.report import CatalogPart, IdentityPart, InterceptionPart, Status, SupervisorPart
from nodeagent.diagnose.facts import AgentState, ConfigFile, StartLink
from nodeagent.diagnose.host import judge_files
from nodeagent.probe import host
from nodeagent.process.privileges import User
from tests.unit.nodeagent.probe.scene import scope

STATUS = Status(
    host="host1", datacenter="dc1", mode="strict", version="1", control_pid=os.getpid(), control_started_at=0.0, healthy=False,
    problems=["p"], warnings=["w"], supervisor=SupervisorPart(pid=os.getpid(), version="1", started_at=0.0, heard_s=0.0),
    interception=InterceptionPart(state="active"), workers=[],
    catalog=CatalogPart(address="a", connected=True, source="none", generation=0, age_s=0.0),
    identity=IdentityPart(trust_domain="", roots=0, certificates=0, missing=[]),
)  # fmt: skip


def test_the_agent_speaks_for_itself() -> None:
    """Or why it does not; before an installation nobody asks."""
    assert host.agent(scope(status=STATUS)) == AgentState(version="1", problems=("p",), warnings=("w",))
    assert host.agent(scope()) == AgentState(error="nobody listens")
    assert host.agent(scope(is_pre=True)) is None


def test_a_configuration_need_not_be_there_before_an_installation(tmp_path: Path) -> None:
    """One that is there is looked at."""
    path = tmp_path / "x.toml"
    assert host.config(scope(is_pre=True, config_path=path)) is None
    path.touch()
    assert host.config(scope(is_pre=True, config_path=path, config_error="bad")) == ConfigFile(str(path), "bad")


def test_libraries_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are here; one that breaks at import is named with its words."""
    assert host.programs(scope()).missing == ()
    monkeypatch.setitem(sys.modules, "ngh2", None)
    (missing,) = host.programs(scope()).missing
    assert missing.startswith("ngh2 (")


def test_what_only_its_owner_can_run_is_named(tmp_path: Path) -> None:
    """The first directory on the way; else a file that is not to be read. This very tree is run by others, too."""
    assert host.programs(scope()).closed == ""
    tmp_path.chmod(0o700)
    closed = Path(host._try_closed(tmp_path / "python3"))
    assert closed in (tmp_path, *tmp_path.parents)
    assert not closed.stat().st_mode & 0o001
    link = Path("/") / "etc" / "shadow"
    assert host._try_closed(link) == str(link)


def test_python_iptables_is_looked_for_where_it_is_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not imported: it may end the process."""
    config = scope().settings
    chosen = scope(config=msgspec.structs.replace(config, intercept=msgspec.structs.replace(config.intercept, backend="iptables")))
    for spec, missing in ((object(), 0), (None, 1)):
        monkeypatch.setattr("importlib.util.find_spec", lambda _, spec=spec: spec)
        assert [len(host.programs(each).missing) for each in (scope(), chosen)] == [0, missing]


def test_users() -> None:
    """Numbers need no account; one for both is no protection."""
    assert host.users(scope()) == ""
    config = scope().settings
    same = msgspec.structs.replace(config, host=msgspec.structs.replace(config.host, worker_user=64901))
    assert "same uid" in str(host.users(scope(config=same)))
    assert host.users(scope(is_pre=True)) is None


def test_a_file_as_it_is(tmp_path: Path) -> None:
    """Mode, owner, and whether the one who needs it can read it."""
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(0o400)
    reader = User(64901, 64901)
    seen = host.file_state(str(path), "the token", reader, is_secret=True)
    assert (seen.mode, seen.owner, seen.is_readable, seen.is_foreign) == (0o400, "root", False, False)
    os.chown(path, 64901, 64901)
    seen = host.file_state(str(path), "the token", reader, is_secret=True)
    assert (seen.owner, seen.is_readable, seen.reader) == ("64901", True, "64901")
    os.chown(path, 64999, 64901)
    path.chmod(0o040)
    seen = host.file_state(str(path), "the token", reader)
    assert (seen.is_readable, seen.is_foreign) == (True, True)
    assert host.file_state(str(tmp_path / "none"), "x", reader).mode is None


def test_the_files_of_a_host(tmp_path: Path) -> None:
    """The CA only where one is configured."""
    assert [file.what for file in host.files(scope()) or ()] == ["the configuration", "the token", "the operator's token"]
    with_ca = host.files(scope(more=f'ca_file = "{tmp_path}/ca"\n'))
    assert with_ca is not None
    assert with_ca[-1].what == "the catalog's CA"
    shown = host.files(scope(more=f'cert_file = "{tmp_path}/cert"\nkey_file = "{tmp_path}/key"\n')) or ()
    assert [(file.what, file.is_secret) for file in shown[-2:]] == [("the certificate for the catalog", False), ("the key for the catalog", True)]
    assert host.files(scope(is_pre=True)) is None


def test_a_configuration_that_the_agent_cannot_read_is_told(tmp_path: Path) -> None:
    """It is root, without CAP_DAC_OVERRIDE; of a directory that it cannot enter, it is that which is told."""
    (etc := tmp_path / "etc").mkdir()
    (path := etc / "nodeagent.toml").touch(mode=0o600)
    assert host.config_state(path) == host.file_state(str(path), "the configuration", User(0, 0))
    path.chmod(0o060)
    seen = host.config_state(path)
    assert (seen.path, seen.what, seen.mode, seen.is_readable) == (str(path), "the configuration", 0o060, False)
    etc.chmod(0o660)
    seen = host.config_state(path)
    assert (seen.path, seen.what, seen.is_readable) == (str(etc), "on the way to the configuration,", False)
    os.chown(etc, 64907, 64907)
    etc.chmod(0o700)
    (found,) = judge_files((host.config_state(path),))
    assert (found.level, found.cure) == ("failed", f"chmod o+x {etc}")
    assert found.found == f"on the way to the configuration, {etc} (of uid 64907, mode 0700) cannot be read by root as the agent runs"


def test_the_state_directory(tmp_path: Path) -> None:
    """Its owner and its room; whether root may keep keys there; missing."""
    os.chown(tmp_path, 64901, 64901)
    room = host.room(scope(more=f'[admin]\nstate_dir = "{tmp_path}"\n'))
    assert room is not None
    assert (room.owner_uid, room.wanted_uid, room.is_read_only, room.free_bytes > 0, room.exists) == (64901, 64901, False, True, True)
    for group, mode, is_closed in ((0, 0o770, False), (0, 0o750, True), (64901, 0o770, True)):
        os.chown(tmp_path, 64901, group)
        tmp_path.chmod(mode)
        found = [host.room(scope(more=f'[identity]\npersist = "{each}"\n[admin]\nstate_dir = "{tmp_path}"\n')) for each in ("disk", "memory")]
        assert [each and each.is_closed_to_root for each in found] == [is_closed, False]
    gone = host.room(scope(more=f'[admin]\nstate_dir = "{tmp_path}/none"\n'))
    assert gone is not None
    assert not gone.exists


def test_ports_and_their_holders() -> None:
    """Ours are those that the agent's own processes hold."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        more = f'[admin]\nmetrics = "127.0.0.1:{port}"\n'
        stranger = {use.port: use for use in host.ports(scope(more=more)) or ()}[port]
        ours = {use.port: use for use in host.ports(scope(more=more, status=STATUS)) or ()}[port]
    assert (stranger.is_ours, f"process {os.getpid()} " in stranger.holder) == (False, True)
    assert ours.is_ours
    assert {use.port: use for use in host.ports(scope(more=more)) or ()}[port].holder == ""


def test_memory_and_descriptors_of_this_machine() -> None:
    """Sane figures."""
    memory, files = host.memory(scope()), host.descriptors(scope())
    assert 0 < memory.available <= memory.total
    assert 0 < files.used < files.most
    assert files.of_agent == 0
    assert host.open_files_limit(os.getpid()) > 0
    assert host.open_files_limit(2**22 + 1) == 0


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    """And one to a program, and none; elsewhere than side by side there is nothing to look at."""
    assert host.start_link(scope(), tmp_path) is None
    program = tmp_path / "versions/1/bin/nodeagent"
    program.parent.mkdir(parents=True)
    program.touch()
    link, path = tmp_path / "current", str(tmp_path / "current")
    assert host.start_link(scope(), tmp_path) == StartLink(path, "", is_whole=False, installed=("1",))
    link.symlink_to("versions/2")
    assert host.start_link(scope(status=STATUS), tmp_path) == StartLink(path, "2", is_whole=False, installed=("1",), running="1")
    link.unlink()
    link.symlink_to("versions/1")
    assert host.start_link(scope(), tmp_path) == StartLink(path, "1", is_whole=True, installed=("1",))
    assert host.start_link(scope(is_pre=True), tmp_path) is None


def test_what_is_closed_to_this_user_is_no_failure() -> None:
    """An agent that does not answer him may answer root; so may a file be well."""
    for probe in (host.agent, host.config, host.users):
        with pytest.raises(PermissionError):
            probe(scope(config=None, config_error="Permission denied", is_agent_closed=True, is_config_closed=True))


def test_a_port_whose_holder_only_root_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root sees them all."""
    monkeypatch.setattr(host, "try_holders", lambda ports: dict.fromkeys(ports, 0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        more = f'[admin]\nmetrics = "127.0.0.1:{server.getsockname()[1]}"\n'
        for uid, is_unseen in ((0, False), (1000, True)):
            monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
            assert [use.is_unseen for use in host.ports(scope(more=more)) or () if use.holder] == [is_unseen]


def test_a_token_in_the_environment_is_no_file() -> None:
    assert [file.what for file in host.files(scope(more='token_file = "env:CONSUL_HTTP_TOKEN"\n')) or ()] == ["the configuration", "the operator's token"]


def test_an_agents_process_that_is_not_known_is_not_at_once_said_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a reload nobody answers, or who did has been replaced since."""
    monkeypatch.setattr(host, "is_nodeagent", lambda _pid: True)
    ended = msgspec.structs.replace(STATUS, control_pid=2**22 + 1, supervisor=None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        more = f'[admin]\nmetrics = "127.0.0.1:{port}"\n'
        for changes, silence in (({}, "hang"), ({"is_agent_settling": True}, "settling"), ({"status": ended}, "settling"), ({"socket_path": "/x"}, "unasked")):
            (held,) = [use for use in host.ports(scope(more=more, **changes)) or () if use.port == port]
            assert (held.is_of_nodeagent, held.is_ours, held.silence) == (True, False, silence)
