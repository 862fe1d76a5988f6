"""What is removed; removing it is tested in tests/e2e/test_lab.py."""

from pathlib import Path

from nodeagent.lab import teardown

MOUNTS = """\
31 23 0:28 / /run rw - tmpfs tmpfs rw
40 31 0:40 / /run/nodeagent-lab/lab/host1/data rw - tmpfs none rw
41 40 0:41 / /run/nodeagent-lab/lab/host1/data/inner rw - tmpfs none rw
42 31 0:42 / /run/nodeagent-lab/lab2/host1/data rw - tmpfs none rw
"""


def test_only_mounts_below_this_lab_inner_ones_first() -> None:
    """Another lab's, with a name that begins alike, stay."""
    assert teardown._mounts_below(Path("/run/nodeagent-lab/lab"), MOUNTS) == [
        "/run/nodeagent-lab/lab/host1/data/inner",
        "/run/nodeagent-lab/lab/host1/data",
    ]
