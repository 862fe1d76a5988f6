"""The files of a host."""

from pathlib import Path

import msgspec
import pytest

from nodeagent.config import parse_config
from nodeagent.lab import layout, settings
from nodeagent.lab.catalogs import Introduction
from nodeagent.lab.state import LabState

STATE = LabState("demo", 78, 2, "permissive", 3)
KNOWN = Introduction("https://10.78.0.250:8501", "n", "o", "c")


def test_the_agent_takes_the_configuration() -> None:
    """What `lab up` writes is what the agent's own parser accepts, and says what was asked for."""
    config = parse_config(settings.host_toml(STATE, STATE.members[1], KNOWN), "nodeagent.toml")
    assert config.host.name == "host2"
    assert config.host.addresses == ("10.78.0.2", "fd78::2")
    assert (config.host.mode, config.host.workers) == ("permissive", 3)
    assert (config.host.control_user, config.host.worker_user) == (64901, 64902)
    assert config.catalog.address == "https://10.78.0.250:8501"
    assert config.intercept.cgroup_root == "nodeagent-lab/demo/host2"
    assert config.identity.units == "any"


def test_tokens_are_readable_by_their_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control process reads the node token, root the operator's, nobody else either."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    (host, _) = STATE.members
    settings.make_directories(host)
    settings.write_host(STATE, host, KNOWN)
    modes = {path.name: (path.stat().st_uid, path.stat().st_mode & 0o777) for path in host.own("etc").iterdir()}
    assert modes == {
        "nodeagent.toml": (0, 0o644), "catalog-ca.pem": (0, 0o644),
        "node.token": (64901, 0o400), "operator.token": (0, 0o600),
    }  # fmt: skip
    assert (host.own("etc") / "node.token").read_text() == "n\n"


def test_a_catalog_on_the_host_itself_is_pinned_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Consul's agent speaks HTTP on loopback."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    (host, _) = STATE.members
    settings.make_directories(host)
    settings.write_host(STATE, host, Introduction("http://127.0.0.1:8500", "n", "o"))
    config = parse_config((host.own("etc") / "nodeagent.toml").read_text(), "nodeagent.toml")
    assert (config.catalog.address, config.catalog.ca_file) == ("http://127.0.0.1:8500", "")
    assert not (host.own("etc") / "catalog-ca.pem").exists()


def test_directories_belong_to_those_who_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the control process may look into the agent's state."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    (host, _) = STATE.members
    settings.make_directories(host)
    found = {name: host.own(name).stat() for name in ("run", "state", "etc")}
    assert {name: (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) for name, stat in found.items()} == {
        "run": (0, 64901, 0o1775), "state": (64901, 0, 0o770), "etc": (0, 0, 0o755),
    }  # fmt: skip


def test_every_mode_is_written_as_the_parser_knows_it() -> None:
    """The option's values are the configuration's."""
    for mode in ("observe", "permissive", "strict"):
        state = msgspec.structs.replace(STATE, mode=mode)
        assert parse_config(settings.host_toml(state, state.members[0], KNOWN), "x").host.mode == mode
