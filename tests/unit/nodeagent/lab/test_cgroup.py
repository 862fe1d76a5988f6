"""cgroup v2 subtrees; ending and removing them for real is in tests/e2e/test_lab.py."""

from pathlib import Path

import pytest

from nodeagent.errors import ConfigError
from nodeagent.lab import cgroup
from nodeagent.lab.errors import LabError
from nodeagent.process.cgroups import find_cgroup2_mount
from redirect.cgroup import mount_of

PURE = """\
23 28 0:22 / /proc rw,nosuid - proc proc rw
31 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(("text", "where"), [(PURE, "/sys/fs/cgroup"), (HYBRID, "/sys/fs/cgroup/unified")])
def test_the_mount_is_found_on_pure_and_hybrid_machines(text: str, where: str) -> None:
    """The same lab works on both."""
    assert cgroup.find_mount(text) == Path(where)


def test_the_lab_and_the_agent_choose_the_same_mount() -> None:
    """Of several: a service put into another one than the agent looks at would have no identity."""
    elsewhere, upper = PURE.replace("/sys/fs/cgroup", "/mnt/cgroup2"), HYBRID.replace("unified", "other")
    inside = PURE + PURE.replace("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/a.service/memory.pressure")
    for text, where in (
        (elsewhere + PURE, "/sys/fs/cgroup"),
        (HYBRID + elsewhere + upper, "/sys/fs/cgroup/other"),
        (inside, "/sys/fs/cgroup"),
    ):
        assert Path(where) == cgroup.find_mount(text) == find_cgroup2_mount(text) == Path(mount_of(text))
    for text in (elsewhere, PURE.replace("/sys/fs/cgroup", "/sys/fs/cgroup2")):
        with pytest.raises(LabError, match="cgroup v2 is not mounted at /sys/fs/cgroup or below"):
            cgroup.find_mount(text)
        with pytest.raises(ConfigError, match="cgroup v2 is not mounted at /sys/fs/cgroup or below"):
            find_cgroup2_mount(text)


def test_a_machine_without_cgroup_v2_is_told_the_cure() -> None:
    """The message names the command that mounts it."""
    with pytest.raises(LabError, match="mount -t cgroup2"):
        cgroup.find_mount("31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n")


def test_what_is_not_there_is_empty_and_gone() -> None:
    """Removing twice is removing once."""
    assert not cgroup.is_populated("nodeagent-no-such-cgroup")
    assert cgroup.pids("nodeagent-no-such-cgroup") == ()
    assert cgroup.children("nodeagent-no-such-cgroup") == ()
    cgroup.kill("nodeagent-no-such-cgroup")
    cgroup.remove("nodeagent-no-such-cgroup")
