"""What a lab's Consul is started with; starting it is tested in tests/e2e/test_consul_lab.py."""

import json
from pathlib import Path

import pytest

from nodeagent.lab import consul, layout
from nodeagent.lab.errors import CatalogAway, CatalogSilent, LabError
from nodeagent.lab.state import Holder

HUB = layout.hub_of("lab", 77)
(HOST,) = layout.hosts_of("lab", 77, 1)


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab of its own."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    for host in (HUB, HOST):
        host.directory.mkdir(parents=True)


def test_a_program_that_is_not_there_is_told_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and by path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for named in ("", "/no/such/consul"):
        with pytest.raises(LabError, match="NODEAGENT_CONSUL"):
            consul.find_program(named)
    program = tmp_path / "consul"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    assert consul.find_program("") == consul.find_program(str(program)) == str(program)


def test_the_management_token_is_made_once_and_read_by_root_alone() -> None:
    """Each lab has its own."""
    token = consul.management_token(HUB)
    assert consul.management_token(HUB) == token
    path = HUB.directory / "consul" / "management.token"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_an_agent_denies_what_is_not_allowed_and_listens_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own token is the host's, and its file is nobody else's to read."""
    started: list[list[str]] = []
    monkeypatch.setattr(consul.enter, "start_daemon", lambda _group, command, *_: started.append(command))
    monkeypatch.setattr(consul.enter, "inside", lambda _pid, command, at: command)
    monkeypatch.setattr(consul, "_make_token", lambda *_: "secret")
    monkeypatch.setattr(consul, "_wait", lambda *_: None)
    assert consul.start_client("/bin/consul", HUB, Holder(1, 1), HOST, Holder(2, 1), print) == "secret"
    path = HOST.directory / "consul" / "consul.json"
    assert started == [["/bin/consul", "agent", "-config-file", str(path)]]
    assert path.stat().st_mode & 0o777 == 0o600
    settings = json.loads(path.read_text())
    assert settings["acl"] == {"enabled": True, "default_policy": "deny", "tokens": {"agent": "secret"}}
    assert (settings["node_name"], settings["client_addr"], settings["retry_join"]) == ("host1", "127.0.0.1", [HUB.ipv4])
    assert "server" not in settings


@pytest.mark.parametrize(("failure", "kind"), [(ConnectionRefusedError(), CatalogAway), (TimeoutError(), CatalogSilent)])
def test_one_that_is_away_is_told_from_one_that_refuses(monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[LabError]) -> None:
    """As of the embedded one."""

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(consul, "connect_in", fail)
    with pytest.raises(kind, match="Consul on host1"):
        consul.call(HOST, Holder(1, 1), "", "GET", "/v1/catalog/nodes")


def test_one_that_ends_is_told_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once."""
    monkeypatch.setattr(consul.cgroup, "is_populated", lambda _: False)
    monkeypatch.setattr(consul.enter, "tail", lambda *_: "  ==> bad config")
    with pytest.raises(LabError, match=r"(?s)host1 did not start .*bad config"):
        consul._wait(HOST, print, lambda: False, "Consul's agent on host1")
