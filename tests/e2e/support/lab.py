"""The lab's command line, and what tests of it share."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from nodeagent.lab import enter
from nodeagent.lab.lab import Lab

NODEAGENT = enter.nodeagent_command()
HTTP = [sys.executable, "-m", "http.server", "--bind", "::"]
"""An ordinary server; the port is the next argument."""


def nodeagent_lab(verb: str, lab: Lab | str, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """The command line, as an operator uses it."""
    name = lab if isinstance(lab, str) else lab.name
    return subprocess.run(
        [NODEAGENT, "lab", verb, "--name", name, *arguments], text=True, capture_output=True, timeout=60, check=False,
        **keywords,
    )  # fmt: skip


def get(lab: Lab, host: str, url: str) -> str:
    """The HTTP status that curl on `host` sees; `000`: none."""
    return lab.exec(host, "curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", url).stdout


def holder(lab: Lab, host: str) -> int:
    """The pid of a host's holder."""
    return lab.state.holders[host].pid


def machine() -> str:
    """What of this machine a lab must not change."""
    commands = (
        ["ip", "-o", "link"], ["ip", "rule"], ["ip", "-6", "rule"], ["ip", "route", "show", "table", "all"],
        ["nft", "list", "tables"],
    )  # fmt: skip
    told = "".join(subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands)
    return told + Path("/proc/sys/net/ipv4/tcp_fwmark_accept").read_text()
