"""Whether this machine's clock is kept."""

import subprocess

from nodeagent.probe.clock import time_service
from tests.unit.nodeagent.probe.scene import scope


def test_the_kernel_tells() -> None:
    """As adjtimex(8) or timedatectl would; here the state itself is asked twice and must agree."""
    first = time_service(scope())
    assert first == time_service(scope())
    told = subprocess.run(["timedatectl", "show", "-p", "NTPSynchronized"], capture_output=True, text=True, check=False).stdout
    assert told.strip() in ("", f"NTPSynchronized={'yes' if first.is_synchronized else 'no'}")
