"""Services of a lab; started and stopped for real in tests/e2e/test_lab.py."""

import os
import socket
from pathlib import Path

import pytest

from nodeagent import limits
from nodeagent.lab import layout, service
from nodeagent.lab.errors import LabError
from nodeagent.lab.state import Holder

(HOST,) = layout.hosts_of("no-such-lab", 99, 1)


def test_nothing_runs_where_nothing_was_started() -> None:
    """No cgroup is no process."""
    assert not service.is_running(HOST, "web")


@pytest.mark.parametrize(
    ("family", "address", "is_dual", "expected"),
    [
        (socket.AF_INET, "127.0.0.1", False, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", False, "0.0.0.0"),
        (socket.AF_INET6, "::1", False, "::1"),
        (socket.AF_INET6, "::", False, "::"),
        (socket.AF_INET6, "::", True, "*"),
    ],
)
def test_it_is_seen_where_somebody_listens(family: int, address: str, is_dual: object, expected: str) -> None:
    """In this process's own namespace; a server on `::` answers over IPv4 too, unless it says that it does not."""
    with socket.create_server((address, 0), family=family, dualstack_ipv6=bool(is_dual)) as server:
        start = service.Start(HOST, "web", [], port=server.getsockname()[1])
        assert service._listened(start, Holder(os.getpid(), 0)) == {expected}
    assert service._listened(start, Holder(os.getpid(), 0)) == frozenset()

def test_a_service_that_does_not_start_is_told_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with all of it."""
    monkeypatch.setattr(layout, "BASE", tmp_path)
    HOST.log("web").parent.mkdir(parents=True)
    HOST.log("web").write_text("".join(f"line {number}\n" for number in range(limits.LAB_LOG_LINES + 5)))
    with pytest.raises(LabError, match="did not start") as told:
        service._fail(service.Start(HOST, "web", ("true",)), "did not start")
    assert str(told.value).count("line ") == limits.LAB_LOG_LINES
    assert str(told.value).endswith(f"line {limits.LAB_LOG_LINES + 4}")


def test_a_command_on_loopback_is_told_the_cure() -> None:
    """And where it was looked for."""
    said = service.loopback_complaint(HOST, frozenset({"127.0.0.1"}), 8080)
    assert said.startswith("listens at 127.0.0.1 alone on port 8080, where nobody reaches it by 10.99.0.1 or fd99::1")
    assert "--bind ::" in said
