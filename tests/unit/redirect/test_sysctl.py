"""The settings as a table; writing them is tested on hosts of their own."""

from pathlib import Path

import pytest

from redirect.errors import RedirectError
from redirect.sysctl import SYSCTLS, Sysctl, read_sysctls, unmet, write_sysctl

ACCEPT, REFLECT, REFLECT6, REUSE = SYSCTLS


def test_the_kernel_has_all_of_them() -> None:
    """Each is a small number."""
    values = read_sysctls()
    assert list(values) == [ACCEPT.name, REFLECT.name, REFLECT6.name, REUSE.name]
    assert all(value in ("0", "1", "2") for value in values.values())


def test_only_what_differs_is_unmet() -> None:
    """With the value that it has."""
    assert list(unmet({ACCEPT.name: "0", REUSE.name: "1"})) == [(ACCEPT, "0")]
    assert list(unmet({ACCEPT.name: "1", REUSE.name: "2"})) == [(REUSE, "2")]
    assert list(unmet({ACCEPT.name: "1", REUSE.name: "1"})) == []


def test_a_host_without_ipv6_has_none_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are read, and what is not there is not missed."""
    monkeypatch.setattr("redirect.sysctl._ROOT", tmp_path)
    (tmp_path / "net/ipv4").mkdir(parents=True)
    for sysctl in (ACCEPT, REFLECT, REUSE):
        sysctl.path.write_text("1\n")
    assert read_sysctls() == {ACCEPT.name: "1", REFLECT.name: "1", REUSE.name: "1"}
    assert list(unmet(read_sysctls())) == []


def test_what_cannot_be_written_is_named_with_the_cure() -> None:
    """As in a container."""
    with pytest.raises(RedirectError, match=r"net\.none cannot be set to 1: .*is /proc/sys writable"):
        write_sysctl(Sysctl("net.none", "1", "0", ""), "1")
