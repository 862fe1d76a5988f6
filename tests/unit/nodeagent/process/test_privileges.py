"""Sets of capabilities, and users."""

from pathlib import Path

import pytest

from nodeagent.errors import ConfigError
from nodeagent.process import privileges
from nodeagent.process.privileges import (
    SENTRY,
    SPAWNER,
    SUPERVISOR,
    User,
    capabilities_to_drop,
    capability_words,
    resolve_user,
)

DAC_OVERRIDE, SYS_ADMIN, SYS_PTRACE = 1, 21, 19


def test_the_supervisor_keeps_what_it_uses_and_nothing_that_opens_files_or_memory() -> None:
    """Each with its reason."""
    assert sorted(SUPERVISOR) == [5, 6, 7, 8, 12, 13]
    assert not {DAC_OVERRIDE, SYS_ADMIN, SYS_PTRACE} & SUPERVISOR.keys()
    assert all(": " in reason for reason in SUPERVISOR.values())


def test_the_spawner_keeps_less_than_the_supervisor() -> None:
    """It needs no network at all."""
    assert SPAWNER.keys() < SUPERVISOR.keys()


def test_the_sentry_keeps_one() -> None:
    """It reads one number and asks the kernel."""
    assert SENTRY.keys() == {12}


def test_everything_else_is_dropped() -> None:
    """Up to the newest capability that this kernel knows."""
    assert capabilities_to_drop({1: "", 3: ""}, 5) == (0, 2, 4, 5)
    assert capabilities_to_drop({}, 40) == tuple(range(41))


def test_the_words_of_capset_hold_nothing_inheritable() -> None:
    """Low and high half."""
    assert capability_words({0: "", 12: "", 40: ""}) == (0x1001, 0x1001, 0, 0x100, 0x100, 0)
    assert capability_words({}) == (0,) * 6


@pytest.mark.parametrize(
    ("setting", "user"), [(64901, User(64901, 64901)), ("64901", User(64901, 64901)), ("nobody", User(65534, 65534))]
)
def test_a_user_is_a_name_or_a_number(setting: str | int, user: User) -> None:
    """A number needs no account."""
    assert resolve_user(setting, "host.worker_user") == user


@pytest.mark.parametrize(
    ("setting", "message"),
    [("no-such-user", "there is no user 'no-such-user'"), ("root", "is root"), (0, "is root"), ("", "there is no user ''")],
)
def test_root_and_strangers_are_refused_with_the_key(setting: str | int, message: str) -> None:
    """And with the cure."""
    with pytest.raises(ConfigError, match=message) as caught:
        resolve_user(setting, "host.worker_user")
    assert str(caught.value).startswith("host.worker_user: ")


def test_the_systemd_unit_grants_exactly_what_the_supervisor_keeps() -> None:
    """One list, in two places that must agree."""
    unit = Path(__file__).parents[4] / "systemd" / "nodeagent.service"
    (line,) = (line for line in unit.read_text().splitlines() if line.startswith("CapabilityBoundingSet="))
    granted = {name.removeprefix("CAP_") for name in line.partition("=")[2].split()}
    assert granted == {reason.partition(":")[0] for reason in SUPERVISOR.values()}


def test_who_may_not_see_the_packet_filter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before libnftables says it in its own way."""
    privileges.check_may_see_network()
    monkeypatch.setattr(privileges, "_status_field", lambda _name: "0000000000000000")
    with pytest.raises(PermissionError, match="it takes root"):
        privileges.check_may_see_network()
