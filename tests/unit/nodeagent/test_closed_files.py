"""Who may read a file by its owner and mode alone, against the kernel: a process without capabilities tries it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.closed_files import closed_to_root

_TRY = """\
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in range(64):
    libc.prctl(24, capability, 0, 0, 0)
import os
os.execv(sys.executable, [sys.executable, "-c", "import sys; open(sys.argv[1])", sys.argv[1]])
"""


def can_be_read(path: Path) -> bool:
    """By root without capabilities: the bounding set is emptied, and execve obeys it."""
    return subprocess.run([sys.executable, "-c", _TRY, str(path)], capture_output=True, check=False, close_fds=True).returncode == 0


@pytest.mark.parametrize(
    ("directory", "file", "what", "cure"),
    [
        ((0, 0, 0o700), (0, 0, 0o600), "", ""),
        ((0, 0, 0o700), (0, 0, 0o040), "etc/nodeagent.toml (of root, mode 0040)", "chown root "),
        ((64901, 64901, 0o700), (0, 0, 0o644), "etc (of uid 64901, mode 0700)", "chmod o+x "),
        ((64901, 64901, 0o711), (64901, 64901, 0o604), "", ""),
        ((64901, 0, 0o710), (64901, 0, 0o640), "", ""),
        ((64901, 0, 0o701), (64901, 0, 0o644), "etc (of uid 64901, mode 0701)", "chmod g+x "),
        ((0, 0, 0o755), (64901, 64901, 0o640), "etc/nodeagent.toml (of uid 64901, mode 0640)", "chown root "),
    ],
)
def test_owner_and_mode_decide(
    directory: tuple[int, int, int], file: tuple[int, int, int], what: str, cure: str, tmp_path: Path
) -> None:
    """Of the file, and of each directory on the way; also through a link."""
    etc = tmp_path / "etc"
    path = etc / "nodeagent.toml"
    etc.mkdir()
    path.touch()
    for each, (uid, gid, mode) in ((path, file), (etc, directory)):
        os.chown(each, uid, gid)
        each.chmod(mode)
    (link := tmp_path / "link").symlink_to(path)
    for way in (path, link):
        found = closed_to_root(way)
        assert (found is None) is can_be_read(way) is (what == "")
        if found:
            assert (found.what, found.cure.startswith(cure)) == (f"{tmp_path / what}", True)


def test_what_is_not_there_is_closed_to_nobody(tmp_path: Path) -> None:
    """That is told otherwise."""
    assert closed_to_root(tmp_path / "none" / "x") is None
