"""The supervisor refuses before it changes anything, and outlives a lack. What it does is tried for real in tests/e2e."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.config import parse_config
from nodeagent.errors import ConfigError
from nodeagent.process.guard import Guard
from nodeagent.process.orders import SpawnerSetup
from nodeagent.process.reload import own_command
from nodeagent.process.startup import Parts
from nodeagent.process.supervisor import Signals, Supervisor, run_supervisor
from nodeagent.process.unit_map import UnitMap
from nodeagent.process.units import StampedUnit
from nodeagent.process.workers import Fleet, FleetCalls
from tests.support.loop import run, until

TEXT = (
    '[host]\nname = "h"\naddresses = ["10.0.0.1"]\ncontrol_user = 64901\nworker_user = 64901\n'
    '[catalog]\naddress = "https://c:8501"\n[admin]\nsocket = "{}/run/api.sock"\n'
)


def test_a_refusal_comes_before_anything_is_made(tmp_path: Path) -> None:
    """No run directory, no lock."""
    with pytest.raises(ConfigError, match="the same uid 64901"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
    assert list(tmp_path.iterdir()) == []


def test_who_is_not_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cure."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="must be started as root"):
        run_supervisor(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_passing_want_of_descriptors_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line in the log; afterwards it sees what is new."""
    monkeypatch.setattr(limits, "DRIFT_S", 0.01)
    loaded: list[str] = []

    def load(units: tuple[StampedUnit, ...]) -> bool:
        loaded.extend(row.unit for row in units)
        return True

    async def scene() -> None:
        parts = Parts(parse_config(TEXT.format(tmp_path), "test"), tmp_path / "nodeagent.toml")
        parts.loop = asyncio.get_running_loop()
        calls = FleetCalls(lambda _question, _tell: None, dict, lambda _worker: None, lambda: 0.0)
        parts.fleet = Fleet(parts.loop, (), SpawnerSetup(parts.config, 64902, 64902), {}, calls)
        parts.guard = Guard(None)
        parts.units = UnitMap(parts.loop, tmp_path, lambda _marks: None, load, lambda _units: None)
        watching = asyncio.create_task(Supervisor(parts, Signals(parts.loop), own_command())._watch())
        try:
            with capture_logs() as log, no_descriptors():
                await until(lambda: log or watching.done(), "a complaint")
                parts.fleet.changed.clear()
                await until(lambda: parts.fleet.changed.is_set() or watching.done(), "the next look")
            (tmp_path / "web.service").mkdir()
            await until(lambda: loaded or watching.done(), "the new unit")
            assert loaded == ["web.service"]
            assert [(line["event"], "Too many open files" in line["error"]) for line in log] == [("watch_failed", True)]
        finally:
            watching.cancel()
            parts.units.close()
            parts.notifier.close()

    run(scene)
