"""All probes together."""

import dataclasses
import threading

import pytest

from nodeagent import limits
from nodeagent.diagnose.facts import Blind, Facts, Memory
from nodeagent.probe import gather as module
from nodeagent.probe.gather import PROBES, gather
from tests.unit.nodeagent.probe.scene import scope


def test_every_fact_has_its_probe() -> None:
    """In the order of the facts."""
    assert [field.name for field in dataclasses.fields(Facts)] == [*PROBES]


def test_before_an_installation_the_host_is_looked_at_and_nothing_else() -> None:
    """Neither agent nor catalog, and without any configuration."""
    facts = gather(scope(config=None, config_error="none", is_pre=True))
    asked = {field.name for field in dataclasses.fields(Facts) if getattr(facts, field.name) is not None}
    assert not asked & {"agent", "users", "files", "room", "link", "token", "enrolment", "services", "health", "certificates", "peers", "clock"}
    assert {"programs", "ports", "memory", "release", "expressions", "cgroups", "rules", "redirections", "time_service"} <= asked
    assert not [name for name in asked if isinstance(getattr(facts, name), Blind)]


def test_nothing_makes_it_raise_nor_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a configuration that can be used, and with a probe that hangs: blind where they must be."""
    monkeypatch.setattr(limits, "CHECK_S", 0.5)
    release = threading.Event()
    monkeypatch.setattr(module, "PROBES", PROBES | {"room": lambda _scope: release.wait(60)})
    facts = gather(scope(config=None, config_error="bad"))
    release.set()
    assert facts.room == Blind("it took more than 0.5 s")
    assert facts.users == Blind("the configuration cannot be used")
    assert isinstance(facts.memory, Memory)
