"""The connection log in a file of its own: whole, rotated, and never in the way of traffic."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nodeagent.lab import layout
from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import look
from tests.e2e.support.app import App
from tests.e2e.support.callers import call
from tests.e2e.support.policy import set_intentions
from tests.e2e.support.settings import edit_config
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080
CALLS = 300
LOG = '[log]\nconnections = "/var/lib/nodeagent/connections.log"\n'


class Logged(NamedTuple):
    """host1 writes the log to a file; shop may call web there, mallory may not."""

    lab: Lab
    shop: Unit
    mallory: Unit
    path: Path

    def call(self, unit: Unit) -> str:
        """What a call to web is answered."""
        return call(unit, self.lab.host("host1").ipv4, WEB, "hello")

    def lines(self) -> list[dict[str, Any]]:
        """What is in the file."""
        whole = self.path.read_text().rpartition("\n")[0] if self.path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]


@pytest.fixture
def logged(make_lab: MakeLab) -> Iterator[Logged]:
    """One host."""
    lab = make_lab(hosts=1, agents=False)
    edit_config(lab, "host1", {}, added=LOG)
    path = lab.host("host1").own("state") / "connections.log"
    with Unit(lab, "host1", "shop") as shop, Unit(lab, "host1", "mallory") as mallory:
        yield Logged(lab, shop, mallory, path)


def test_each_connection_has_its_line_there_and_refusals_are_in_the_journal_too(logged: Logged) -> None:
    """Also after the file was renamed away, as logrotate does."""
    logged.lab.start_agent("host1")
    with App(logged.lab, "host1", "web", WEB):
        set_intentions(logged.lab, {("shop", "web"): "allow"})
        assert logged.call(logged.shop) == "app:hello"
        assert logged.call(logged.mallory) == "reset"
        eventually(lambda: len(logged.lines()) == 2, look.WITHIN_S, "two lines")
        assert {(line["source"], line["reason"]) for line in logged.lines()} == {("shop", "ok"), ("mallory", "denied")}
        assert [line["source"] for line in look.log_lines(logged.lab, "host1")] == ["mallory"]
        logged.path.rename(logged.path.with_suffix(".1"))
        assert logged.call(logged.shop) == "app:hello"
        eventually(lambda: [line["source"] for line in logged.lines()] == ["shop"], look.WITHIN_S, "a new file")


def test_a_log_that_nobody_takes_stops_neither_traffic_nor_the_agent(logged: Logged) -> None:
    """A pipe without a reader: what writes to it waits for ever, and is alone with that."""
    os.mkfifo(logged.path, 0o600)
    os.chown(logged.path, layout.CONTROL_UID, layout.CONTROL_UID)
    logged.lab.start_agent("host1")
    with App(logged.lab, "host1", "web", WEB):
        set_intentions(logged.lab, {("shop", "web"): "allow"})
        assert [logged.call(logged.shop) for _ in range(CALLS)] == ["app:hello"] * CALLS
        assert logged.call(logged.mallory) == "reset"
        assert look.status(logged.lab, "host1")["healthy"]
        eventually(lambda: look.log_lines(logged.lab, "host1"), look.WITHIN_S, "the refusal in the journal")
    logged.lab.stop_agent("host1")
    assert logged.lab.pids("host1", layout.AGENT) == ()


def test_a_log_that_cannot_be_written_is_a_warning(logged: Logged) -> None:
    """A directory stands in its place: lines are lost, counted and named, and the agent is well.

    The journal has a line when it begins, with the cure, and one when it ends.
    """
    logged.path.mkdir()
    logged.lab.start_agent("host1")
    with App(logged.lab, "host1", "web", WEB):
        set_intentions(logged.lab, {("shop", "web"): "allow"})
        assert logged.call(logged.shop) == "app:hello"

        def is_told() -> bool:
            return any("lines of the connection log are lost" in each for each in look.status(logged.lab, "host1")["warnings"])

        eventually(is_told, look.WITHIN_S, "the warning")
        assert look.status(logged.lab, "host1")["healthy"]
        assert [logged.call(logged.shop) for _ in range(10)] == ["app:hello"] * 10
        logged.path.rmdir()

        def is_written() -> bool:
            return logged.call(logged.shop) == "app:hello" and bool(logged.lines())

        eventually(is_written, look.WITHIN_S, "it is written again")
        (begun,) = look.log_lines(logged.lab, "host1", "connection_log_failed")
        assert "host.control_user" in begun["cure"]
        assert len(look.log_lines(logged.lab, "host1", "connection_log_written_again")) == 1
