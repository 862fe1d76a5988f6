"""`python -m nodeagent`."""

import subprocess
import sys

from nodeagent import __version__


def test_the_module_is_the_command() -> None:
    """The same program as `nodeagent`, for where no script is installed."""
    done = subprocess.run([sys.executable, "-m", "nodeagent", "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert __version__ in done.stdout
