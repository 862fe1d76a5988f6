"""Cgroup paths: where the tree is mounted, and what may stand in a rule."""

import pytest

from redirect.cgroup import element_of, mount_of
from redirect.errors import RedirectError

PURE = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
ELSEWHERE = "29 23 0:26 / /mnt/cgroup2 rw - cgroup2 cgroup2 rw\n"
# Inside a unit of systemd 257.
PRESSURE = "77 29 0:26 /system.slice/a.service/memory.pressure {}/system.slice/a.service/memory.pressure rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "mount"),
    [
        (PURE, "/sys/fs/cgroup"),
        (HYBRID, "/sys/fs/cgroup/unified"),
        (ELSEWHERE + PURE, "/sys/fs/cgroup"),
        (PURE + PRESSURE.format("/sys/fs/cgroup"), "/sys/fs/cgroup"),
        (HYBRID + PRESSURE.format("/sys/fs/cgroup/unified"), "/sys/fs/cgroup/unified"),
    ],
)
def test_the_mount_that_nft_can_name_is_found(mountinfo: str, mount: str) -> None:
    """On pure and on hybrid hosts."""
    assert mount_of(mountinfo) == mount


@pytest.mark.parametrize("mountinfo", ["", ELSEWHERE, HYBRID.replace("cgroup2", "cgroup")])
def test_without_such_a_mount_there_is_no_guess(mountinfo: str) -> None:
    """Rules by cgroup would be silently wrong."""
    with pytest.raises(RedirectError, match="cgroup v2 is not mounted"):
        mount_of(mountinfo)


@pytest.mark.parametrize(
    ("mount", "path", "element"),
    [
        ("/sys/fs/cgroup", "system.slice/web.service", '"system.slice/web.service"'),
        ("/sys/fs/cgroup/unified", "/lab/h1/system.slice/web.service/", '"unified/lab/h1/system.slice/web.service"'),
        ("/sys/fs/cgroup", r"system.slice/web@\x2da.service", r'"system.slice/web@\x2da.service"'),
        ("/sys/fs/cgroup", "", None),
        ("/sys/fs/cgroup/unified", "/", None),
        ("/sys/fs/cgroup", "a/../b", None),
        ("/sys/fs/cgroup", 'a"; flush ruleset #', None),
        ("/sys/fs/cgroup", "a\nb", None),
        ("/sys/fs/cgroup", "a*", None),
        ("/sys/fs/cgroup", "a, b", None),
        ("/sys/fs/cgroup", "x" * 2000, None),
    ],
)
def test_a_path_becomes_an_element_or_nothing(mount: str, path: str, element: str | None) -> None:
    """A name that could end nft's string, or mean more than one cgroup, is never put into a command."""
    assert element_of(mount, path) == element
