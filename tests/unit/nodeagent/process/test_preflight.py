"""What is checked before anything is started, on a machine where all is well, and where it is not."""

import os
from pathlib import Path

import pytest

from nodeagent.config import parse_config
from nodeagent.errors import ConfigError
from nodeagent.process import preflight
from nodeagent.process.privileges import User

CONFIG = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n'


def test_a_whole_kernel_passes() -> None:
    """Conntrack and sock_diag are really asked."""
    preflight.check_is_root()
    preflight.check_kernel(parse_config(CONFIG, "test"))


def test_an_old_kernel_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what is missing; without interception nothing is."""
    monkeypatch.setattr(preflight, "_FWMARK_ACCEPT", tmp_path / "tcp_fwmark_accept")
    with pytest.raises(ConfigError, match=f"tcp_fwmark_accept does not exist: this kernel .{os.uname().release}. is too old"):
        preflight.check_kernel(parse_config(CONFIG, "test"))
    preflight.check_kernel(parse_config(CONFIG + "[intercept]\nenabled = false\n", "test"))


def test_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="must be started as root"):
        preflight.check_is_root()


def test_a_capability_that_the_unit_withholds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is for."""
    monkeypatch.setattr(preflight.privileges, "_status_field", lambda _name: "0000000000000000")
    with pytest.raises(ConfigError, match=r"NET_ADMIN: nftables.*CapabilityBoundingSet="):
        preflight.check_is_root()


def test_control_and_workers_are_two_users() -> None:
    """Or a worker could read control's memory."""
    preflight.check_users(User(1, 1), User(2, 2))
    with pytest.raises(ConfigError, match="the same uid 5"):
        preflight.check_users(User(5, 1), User(5, 2))


def test_the_backlog_limit_is_the_kernels() -> None:
    """A number."""
    assert preflight.backlog_limit() > 0


@pytest.mark.parametrize("name", ["", "root", 4_000_000_000, 12345])
def test_a_group_is_one_or_a_number(name: str | int) -> None:
    preflight.check_group(name, "x")


def test_a_group_that_is_none_is_named_with_its_key_and_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"^/etc/a\.toml: admin\.write_group: there is no group 'nosuchgroup'; make it .*groupadd"):
        preflight.check_group("nosuchgroup", "/etc/a.toml: admin.write_group")


def test_units_are_looked_for_in_a_cgroup() -> None:
    """Of this host's tree."""
    preflight.check_cgroup_root("")
    with pytest.raises(ConfigError, match="cgroup_root: '/no/such' is not below"):
        preflight.check_cgroup_root("/no/such")


def test_a_right_that_is_missing_does_not_make_a_kernel_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cure is another one."""

    def refuse(_family: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(preflight, "make_prepared_socket", refuse)
    with pytest.raises(ConfigError, match=r"not permitted; it takes root, with CAP_NET_ADMIN$"):
        preflight.check_kernel(parse_config(CONFIG, "test"))
