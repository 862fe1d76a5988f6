"""Argument lists that start programs inside a host."""

from pathlib import Path

import pytest

from nodeagent.lab import enter
from nodeagent.lab.errors import LabError


def test_namespaces_then_directory_then_user_then_command() -> None:
    """Everything that needs root comes before the user changes; /sys is never mounted again."""
    argv = enter.inside(42, ["curl", "-v", "--", "x y"], user="64999", at="/root/secret")
    assert argv == [
        "nsenter", "--net=/proc/42/ns/net", "--mount=/proc/42/ns/mnt", "--",
        "env", "--chdir=/root/secret",
        "setpriv", "--reuid=64999", "--regid=64999", "--clear-groups", "--",
        "curl", "-v", "--", "x y",
    ]  # fmt: skip


def test_a_user_by_name_gets_its_groups() -> None:
    """As a login would."""
    assert enter.inside(1, ["id"], user="nobody", at="/")[-6:] == [
        "setpriv", "--reuid=65534", "--regid=65534", "--init-groups", "--", "id",
    ]  # fmt: skip


def test_an_unknown_user_is_refused() -> None:
    """Running as root instead would be the wrong answer."""
    with pytest.raises(LabError, match="no user 'nobody-at-all'"):
        enter.inside(1, ["id"], user="nobody-at-all", at="/")


def test_a_tools_own_words_are_in_the_error() -> None:
    """An operator sees what failed and why."""
    with pytest.raises(LabError, match=r"failed \(3\): no such thing"):
        enter.run_tool(["sh", "-c", "echo no such thing >&2; exit 3"])
    with pytest.raises(LabError, match="no-such-tool is not installed"):
        enter.run_tool(["no-such-tool"])
    with pytest.raises(LabError, match=r"did not end within 0\.05 s"):
        enter.run_tool(["sleep", "60"], timeout_s=0.05)
    assert enter.run_tool(["cat"], stdin="through") == "through"


def test_a_tail_is_of_this_run(tmp_path: Path) -> None:
    """Only the last lines, from where this start began."""
    log = tmp_path / "web.log"
    assert enter.tail(log, 2) == "  (no log)"
    log.write_text("old\n")
    start = log.stat().st_size
    assert enter.tail(log, 2, start) == "  (its log is empty)"
    with log.open("a") as file:
        file.write("one\ntwo\nthree\n")
    assert enter.tail(log, 2, start) == "  two\n  three"


@pytest.mark.parametrize("uid", ["4294967295", "4294967296", "99999999999"])
def test_a_uid_that_would_wrap_around_is_refused(uid: str) -> None:
    """The kernel takes it modulo 2^32: 4294967296 would be root."""
    with pytest.raises(LabError, match="at most"):
        enter.inside(1, ["id"], user=uid, at="/")


def test_another_user_gets_nothing_of_roots_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's token would be readable for whoever owns the process; root itself keeps everything."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "secret")
    monkeypatch.setenv("TERM", "dumb")
    assert enter.environment()["CONSUL_HTTP_TOKEN"] == "secret"
    found = enter.environment("nobody")
    assert found["TERM"] == "dumb"
    assert found["PATH"] == enter.environment()["PATH"]
    assert set(found) <= {"LANG", "LC_ALL", "PATH", "TERM", "TZ"}


def test_nodeagent_is_found_inside() -> None:
    """Every command of the handbook works inside a host as on a machine of its own."""
    program = Path(enter.nodeagent_command())
    assert program.name == "nodeagent"
    assert str(program.parent) in enter.environment()["PATH"].split(":")
