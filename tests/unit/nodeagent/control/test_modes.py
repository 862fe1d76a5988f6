"""Modes that were switched while the agent runs."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent.control.modes import ModeBook, Modes, Switched, changed, still_holding, with_modes
from tests.support.mesh import config

OPEN = b'{"mode":"observe","over":"observe","by":"uid 0","at":1}'
WEB = '[service.web]\nmode = "observe"\n'


def book(tmp_path: Path, extra: str = "", mode: str = "observe") -> ModeBook:
    """As a control that has just started has it."""
    made = ModeBook(tmp_path / "modes.json", config(extra, mode=mode), lambda: 100.0)
    made.restore()
    return made


def test_a_switch_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    """Of the host, of a service with a table of its own and of one without."""
    first = book(tmp_path, WEB)
    first.switch("permissive", "", "uid 0")
    first.switch("strict", "web", "uid 0")
    first.switch("strict", "cart", "uid 0")
    for modes in (first, book(tmp_path, WEB)):
        assert modes.config.host.mode == "permissive"
        assert {name: table.mode for name, table in modes.config.service.items()} == {"web": "strict", "cart": "strict"}
        assert modes.modes.host == Switched("permissive", "observe", "uid 0", 100.0)
    assert (tmp_path / "modes.json").stat().st_mode & 0o777 == 0o600


def test_a_later_word_in_the_file_counts(tmp_path: Path) -> None:
    """Whoever edits it after the switch means it; what was not edited stays switched."""
    first = book(tmp_path, WEB)
    first.switch("permissive", "", "uid 0")
    first.switch("strict", "web", "uid 0")
    later = book(tmp_path, WEB, mode="strict")
    assert later.config.host.mode == "strict"
    assert later.config.service["web"].mode == "strict"
    assert book(tmp_path, WEB.replace("observe", "permissive")).config.service["web"].mode == "permissive"


def test_what_the_file_has_overtaken_does_not_come_back(tmp_path: Path) -> None:
    """Also when the file says again what it said at the time of the switch."""
    book(tmp_path, mode="strict").switch("observe", "", "uid 0")
    assert book(tmp_path, mode="permissive").config.host.mode == "permissive"
    assert book(tmp_path, mode="strict").config.host.mode == "strict"


def test_a_reset_goes_back_to_the_file(tmp_path: Path) -> None:
    """One at a time."""
    modes = book(tmp_path, WEB)
    modes.switch("strict", "", "uid 0")
    modes.switch("strict", "web", "uid 0")
    modes.switch(None, "", "uid 0")
    assert (modes.config.host.mode, modes.config.service["web"].mode) == ("observe", "strict")
    modes.switch(None, "web", "uid 0")
    assert modes.config == config(WEB, mode="observe")


def test_the_log_names_the_mode_that_holds(tmp_path: Path) -> None:
    """Also after a reset: the file's, or the host's where the file has none for the service."""
    modes = book(tmp_path, WEB)
    with capture_logs() as logs:
        modes.switch("strict", "", "uid 0")
        for service in ("web", "cart", ""):
            modes.switch(None, service, "uid 0")
    assert [(each["service"], each["mode"], each["is_configured"]) for each in logs] == [
        ("", "strict", False), ("web", "observe", True), ("cart", "strict", True), ("", "observe", True),
    ]  # fmt: skip


def test_what_cannot_be_saved_is_not_switched(tmp_path: Path) -> None:
    """A full disk: the operator is told, and nothing is half done."""
    modes = ModeBook(tmp_path / "missing" / "modes.json", config(mode="observe"), lambda: 100.0)
    with pytest.raises(OSError, match="missing"):
        modes.switch("strict", "", "uid 0")
    assert modes.config.host.mode == "observe"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b'{"host":{"mode":"lax"}}', b"[]", b"\xff", b"{}", b'{"hosts":{},"version":1}', b'{"host":null,"services":{},"version":2}',
        b'{"host":{"mode":"observe","over":null,"by":"","at":1e18},"services":{},"version":1}',
        b'{"host":null,"host":null,"services":{},"version":1}', b'{"host":null,"services":{},"version":1,"services":{}}',
        b'{"host":null,"services":{"web":%b,"web":%b},"version":1}' % (OPEN, OPEN), b'{"host":null,"services":{"web":%b,"w\\u0065b":%b},"version":1}' % (OPEN, OPEN),
        b'{"host":null,"services":{"web":%b},"version":1}' % OPEN.replace(b'"by"', b'"mode":"observe","by"'),
    ],
)  # fmt: skip
def test_a_spoiled_file_means_strict_until_somebody_decides(tmp_path: Path, data: bytes) -> None:
    """What was enforced must not be open because a file is broken."""
    (tmp_path / "modes.json").write_bytes(data)
    modes = book(tmp_path, WEB)
    assert (modes.config.host.mode, modes.config.service["web"].mode) == ("strict", "strict")
    assert "nodeagent enforce" in modes.complaint
    modes.switch("permissive", "web", "uid 0")
    for held in (modes, book(tmp_path, WEB)):
        assert (held.config.host.mode, held.config.service["web"].mode) == ("strict", "permissive")
        assert "what nobody has switched since is strict" in held.complaint
    modes.switch(None, "", "uid 0")
    assert (modes.config.host.mode, modes.complaint) == ("observe", "")


def test_one_reset_ends_what_a_spoiled_file_has_done(tmp_path: Path) -> None:
    """Also later, when something was switched since; what somebody has switched is his."""
    (tmp_path / "modes.json").write_bytes(b"{")
    modes = book(tmp_path, WEB + '[service.cart]\nmode = "permissive"\n')
    assert modes.after_reset("") == {"": "observe", "web": "observe", "cart": "permissive"}
    assert modes.after_reset("web") == {"web": "observe"}
    modes.switch("permissive", "web", "uid 0")
    later = book(tmp_path, WEB + '[service.cart]\nmode = "permissive"\n')
    with capture_logs() as logs:
        later.switch(None, "", "uid 0")
    assert [(each["service"], each["mode"]) for each in logs] == [("", "observe"), ("cart", "permissive")]
    assert later.modes == Modes(None, {"web": Switched("permissive", "observe", "uid 0", 100.0)})
    assert (later.complaint, later.after_reset("")) == ("", {"": "observe"})


def test_the_pure_parts() -> None:
    """No file, no clock."""
    made = changed(Modes(), "strict", "web", None, "uid 0", 1.0)
    assert with_modes(config(), made).service["web"].mode == "strict"
    assert changed(made, None, "web", None, "uid 0", 2.0) == Modes()
    assert still_holding(made, config()) == made
    assert still_holding(made, config(WEB)) == Modes()
