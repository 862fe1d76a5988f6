"""The binding: messages, and what must not take the process down. Commands that need root are in tests/e2e."""

import resource
import subprocess
import sys

import pytest

from redirect.errors import RedirectError
from redirect.libnftables import Nft, explain

ERRORS = """<cmdline>:1:18-25: Error: Could not process rule: No such file or directory
add element inet nodeagent mesh4 { 10.0.0.1, 10.0.0.2 }
                 ^^^^^^^^^
<cmdline>:2:1-9: Error: Could not process rule: No such file or directory
"""


def test_the_message_is_the_reason_and_not_the_command() -> None:
    """The command may hold 20,000 addresses; the same reason is said once."""
    assert explain(ERRORS) == "Error: Could not process rule: No such file or directory"
    assert len(explain("x" * 100_000)) == 400
    assert explain("") == "no reason given"


def test_a_closed_context_is_refused_and_may_be_closed_again() -> None:
    """It is memory of a C library: using it after it was freed would be a crash."""
    nft = Nft()
    nft.close()
    nft.close()
    for call in (nft.run, nft.check):
        with pytest.raises(RedirectError, match="closed"):
            call("list tables")


def test_a_syntax_error_is_the_librarys_own_message() -> None:
    """Which is refused before the kernel is asked."""
    with Nft() as nft, pytest.raises(RedirectError, match=r"nft: .*syntax error"):
        nft.check("add nonsense {")


def test_too_many_open_files_are_an_error_and_not_an_abort() -> None:
    """The library waits with select(): from descriptor 1024 on, libc would end the process."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert limit > 1100
    program = (
        "import os, resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "files = [open(os.devnull) for _ in range(1050)]\n"
        "from redirect.libnftables import Nft\n"
        "Nft()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RedirectError: 1024 files or more are open" in done.stderr


def test_no_descriptor_at_all_is_an_error_that_a_guard_survives() -> None:
    """The library itself would end the process."""
    program = (
        "import resource\n"
        "from redirect.libnftables import Nft\n"
        "Nft().close()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "Nft()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RedirectError: libnftables needs a descriptor: [Errno 24]" in done.stderr
