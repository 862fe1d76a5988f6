"""What is said where no agent answers, by what is on the host."""

import fcntl
import os
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from nodeagent.cli import agent_away as module
from nodeagent.cli.agent_away import explain
from nodeagent.cli.agent_silent import Part
from nodeagent.cli.agent_unit import Unit
from nodeagent.lab import layout
from redirect.errors import RedirectError

HOST = '[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:1"\n[admin]\nsocket = "{}"\n[intercept]\nfail = "{}"\ncgroup_root = "{}"\n'
ENDED = ConnectionRefusedError(111, "Connection refused")
NONE = FileNotFoundError(2, "No such file or directory")


class Host:
    """What a host has, as the test wants it. Owned by one test."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, self._monkeypatch = path, monkeypatch
        self.socket = str(path / "run" / "api.sock")
        self.config = path / "nodeagent.toml"
        (path / "run").mkdir()
        monkeypatch.setattr(module, "_UNIT_DIRECTORIES", (path,))
        monkeypatch.setattr(layout, "BASE", path / "labs")
        self.has_unit(Unit())
        self.has_rules(captures=True)

    def has_rules(self, *, captures: bool | None) -> None:
        def backends() -> tuple[str, ...]:
            if captures is None:
                raise RedirectError("not yours to see")
            return ("nft",) if captures else ()

        self._monkeypatch.setattr(module, "capturing_backends", backends)

    def has_unit(self, unit: Unit) -> None:
        self._monkeypatch.setattr(module, "look_at", lambda name: {"nodeagent.service": unit}[name])

    def configure(self, fail: str = "closed", cgroup_root: str = "") -> None:
        self.config.write_text(HOST.format(self.socket, fail, cgroup_root))

    def install_unit(self) -> None:
        (self._path / "nodeagent.service").touch()

    def says(self, error: Exception = ENDED) -> tuple[str, str]:
        return explain(self.socket, error, self.config)[:2]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("fail", "captures", "meanwhile"),
    [
        ("closed", True, 'new mesh connections of this host are reset (fail = "closed")'),
        ("open", True, 'new mesh connections of this host go in clear, but none to a strict service (fail = "open")'),
        ("closed", None, 'new mesh connections of this host are reset, where its rules are installed (fail = "closed")'),
        ("open", None, 'new mesh connections of this host go in clear, where its rules are installed, but none to a strict service (fail = "open")'),
        ("closed", False, "nothing is captured: connections go in clear, as without an agent"),
    ],
)
def test_an_agent_that_was_stopped_is_started_and_till_then_the_rules_go_by_fail(host: Host, *, fail: str, captures: bool | None, meanwhile: str) -> None:
    host.configure(fail)
    host.install_unit()
    host.has_rules(captures=captures)
    what, cure = host.says()
    assert what == f"nobody listens at {host.socket}: the agent has ended; meanwhile {meanwhile}"
    assert cure == "start it: systemctl start nodeagent; where it ends again: journalctl -u nodeagent -n 50"
    assert host.says(NONE)[0] == f"no agent at {host.socket}; meanwhile {meanwhile}"


@pytest.mark.parametrize(
    ("fail", "own", "says"),
    [
        ("closed", "open", '(fail = "closed"); calls to a, echo go in clear, unless strict (fail = "open" there)'),
        ("open", "closed", '(fail = "open"); calls of and to a, echo are reset (fail = "closed" there)'), ("open", "open", '(fail = "open")'),
    ],
)  # fmt: skip
def test_a_service_of_another_fail_is_named(host: Host, fail: str, own: str, says: str) -> None:
    host.configure(fail)
    with host.config.open("a") as file:
        file.write(f'[service.echo]\nfail = "{own}"\n[service.a]\nfail = "{own}"\n[service.b]\nfail = "{fail}"\n[service.c]\nmode = "observe"\n')
    assert host.says()[0].endswith(says)


@pytest.mark.parametrize(("lab", "cure"), [("lab", "host1 start"), ("mine", "--name mine host1 start")])
def test_in_a_lab_the_very_command_is_named(host: Host, lab: str, cure: str) -> None:
    host.configure(cgroup_root=f"nodeagent-lab/{lab}/host1")
    assert host.says()[1] == f"start it: nodeagent lab agent {cure}"


def test_what_is_not_installed_is_not_started(host: Host) -> None:
    """Rules that were left can be taken away, and whoever has a lab may have meant a host of it."""
    what, cure = host.says(NONE)
    assert what == f"no agent at {host.socket}; its rules are left, and still refuse new mesh connections of this host, or let them by"
    assert cure.startswith("nodeagent.service is not installed here: install it (docs/install.md)")
    assert "nodeagent intercept remove" in cure
    assert "lab exec" not in cure
    host.has_rules(captures=None)
    layout.BASE.mkdir()
    what, cure = host.says(NONE)
    assert what == f"no agent at {host.socket}"
    assert "intercept remove" not in cure
    assert "nodeagent lab exec HOST -- nodeagent status" in cure


def test_a_socket_that_is_not_the_configured_one_is_the_mistake(host: Host) -> None:
    host.configure()
    other = f"{host.socket}.other"
    assert explain(other, NONE, host.config)[:2] == (
        f"no agent at {other}", f"{host.config} says {host.socket}: name that with --socket, or leave --socket and NODEAGENT_SOCKET out"
    )  # fmt: skip


def test_an_agent_that_is_just_away_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds its directory: nothing is to be started, and nothing is refused. One whose supervisor stands still is not."""
    host.configure()
    held = os.open(Path(host.socket).parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        what, cure, is_settling = explain(host.socket, ENDED, host.config)
        monkeypatch.setattr(module, "parts_of", lambda _: (Part("the supervisor", 7, is_stopped=True),))
        stopped = explain(host.socket, ENDED, host.config)
    finally:
        os.close(held)
    assert what == f"nobody listens at {host.socket}: the agent is starting, or just replacing itself (a reload)"
    assert (cure.startswith("ask again"), is_settling) == (True, True)
    assert "has ended" in host.says()[0]
    assert (stopped.is_settling, stopped.cure.startswith("end the hang: systemctl restart nodeagent")) == (False, True)


def test_interception_that_is_off_captures_nothing(host: Host) -> None:
    host.config.write_text(HOST.format(host.socket, "closed", "") + "enabled = false\n")
    host.has_rules(captures=None)
    assert "nothing is captured" in host.says()[0]


def test_what_else_goes_wrong_is_said_in_words_with_a_cure(host: Host) -> None:
    """No bare number of an error."""
    what, cure = host.says(OSError(71, "Protocol error"))
    assert (what, cure.startswith("does another program listen there?")) == (f"the agent at {host.socket} does not answer: Protocol error", True)
    assert host.says(OSError("odd"))[0].endswith("does not answer: odd")


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), RemoteDisconnected("closed"), BrokenPipeError(32, "x")])
def test_one_that_breaks_off_is_asked_again(host: Host, error: Exception) -> None:
    """As control does that hung, and was replaced."""
    what, cure = host.says(error)
    assert what == f"the agent at {host.socket} broke off while it was asked: its control ended, or was replaced, as one that hangs is"
    assert cure.startswith("ask again; see: ")


def test_one_that_hangs_whole_is_restarted_and_till_then_the_rules_go_by_fail(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.configure("open")
    whole = (Part("the supervisor", 7, is_stopped=True), Part("control", 8, is_stopped=True))
    monkeypatch.setattr(module, "parts_of", lambda _: whole)
    what, cure = host.says(TimeoutError())
    assert what == (
        f"the agent at {host.socket} did not answer within 5 s: its control (process 8) is stopped (SIGSTOP, or a debugger); so is the supervisor (7); "
        'meanwhile new mesh connections of this host go in clear, but none to a strict service (fail = "open")'
    )
    assert cure.startswith("end the hang: systemctl restart nodeagent; see: journalctl")
    host.configure(cgroup_root="nodeagent-lab/mine/host1")
    assert host.says(TimeoutError())[1] == "end the hang: nodeagent lab agent --name mine host1 restart; see: nodeagent lab agent --name mine host1 logs"


def test_one_whose_control_alone_is_silent_goes_on_serving(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is helped by itself; of a stranger's socket no more is known than that nobody answers."""
    host.configure()
    monkeypatch.setattr(module, "parts_of", lambda _: (Part("the supervisor", 7, is_stopped=False), Part("control", 8, is_stopped=True)))
    what, cure = host.says(TimeoutError())
    assert what.endswith("; meanwhile calls go on by what its workers know")
    assert cure.startswith("ask again: ")
    monkeypatch.setattr(module, "parts_of", lambda _: ())
    assert host.says(TimeoutError())[0] == f"the agent at {host.socket} did not answer within 5 s"


def test_one_that_systemd_has_given_up_wants_more_than_a_start(host: Host) -> None:
    """`systemctl start` alone is refused for up to a minute (`StartLimitIntervalSec=`)."""
    host.configure()
    host.install_unit()
    host.has_unit(Unit(has_failed=True))
    for error in (ENDED, NONE):
        what, cure = host.says(error)
        assert "the agent ended again and again, and systemd starts it no more; meanwhile" in what
        assert cure == "mend what it says: journalctl -u nodeagent -n 50; then: systemctl reset-failed nodeagent && systemctl start nodeagent"
    host.configure(cgroup_root="nodeagent-lab/lab/host1")
    assert host.says()[1] == "start it: nodeagent lab agent host1 start"


def test_one_that_was_disabled_is_said_to_be(host: Host) -> None:
    host.configure()
    host.install_unit()
    host.has_unit(Unit(is_disabled=True))
    assert host.says()[1].startswith("it is disabled; to have it run again: systemctl enable --now nodeagent-intercept nodeagent; where")
