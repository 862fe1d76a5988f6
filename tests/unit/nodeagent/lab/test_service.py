"""Services of a lab; started and stopped for real in tests/e2e/test_lab.py."""

import os
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab import layout, service
from nodeagent.lab.errors import LabError
from nodeagent.lab.state import Holder


def test_nothing_runs_where_nothing_was_started() -> None:
    """No cgroup is no process."""
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    assert not service.is_running(host, "web")


def test_both_families_are_asked_who_listens() -> None:
    """A server on ::  or 0.0.0.0 alike counts; seen in this process's own namespace."""
    import socket

    holder = Holder(os.getpid(), 0)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            assert server.getsockname()[1] in service._listening(holder)


def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with all of it."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    (host,) = layout.hosts_of("no-such-lab", 99, 1)
    host.log("web").parent.mkdir(parents=True)
    host.log("web").write_text("".join(f"line {number}\n" for number in range(limits.LAB_LOG_LINES + 5)))
    with pytest.raises(LabError, match="did not start") as told:
        service._fail(service.Start(host, "web", ("true",)), "did not start")
    assert str(told.value).count("line ") == limits.LAB_LOG_LINES
    assert str(told.value).endswith(f"line {limits.LAB_LOG_LINES + 4}")
