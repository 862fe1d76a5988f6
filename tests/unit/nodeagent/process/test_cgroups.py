"""The cgroup tree, on directories that look like one."""

import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeagent import limits
from nodeagent.errors import ConfigError
from nodeagent.process import cgroups
from nodeagent.process.cgroups import IdScan, SliceWatch, find_cgroup2_mount, own_cgroup, scan_ids, scan_units


@pytest.mark.parametrize(
    ("line", "mount"),
    [
        ("30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw", "/sys/fs/cgroup"),
        ("30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw", "/sys/fs/cgroup/unified"),
        (
            "30 24 0:26 / /mnt/cgroup2 rw - cgroup2 none rw\n31 24 0:26 / /sys/fs/cgroup rw - cgroup2 x rw",
            "/sys/fs/cgroup",
        ),
    ],
)
def test_the_mount_is_found_on_pure_and_hybrid_hosts(line: str, mount: str) -> None:
    """Among others."""
    other = "29 24 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    assert find_cgroup2_mount(other + line + "\n") == Path(mount)


def test_a_host_without_cgroup2_is_told_so() -> None:
    """With the cure."""
    with pytest.raises(ConfigError, match="mount -t cgroup2"):
        find_cgroup2_mount("29 24 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/nodeagent.service\n", "system.slice/nodeagent.service"),
        ("4:memory:/x\n0::/lab/host1\n", "lab/host1"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_a_processs_own_cgroup_is_read(text: str, path: str) -> None:
    """The line of version 2."""
    assert own_cgroup(text) == path


def tree(root: Path, *paths: str) -> None:
    """Directories below `root`."""
    for path in paths:
        (root / path).mkdir(parents=True)


def test_units_are_found_below_trusted_slices_only(tmp_path: Path) -> None:
    """With their ids; what a unit or a user has below is not looked at."""
    tree(
        tmp_path, "system.slice/web.service/inner.service", "system.slice/system-db.slice/db@1.service",
        "user.slice/user-1.slice/user@1.service/app.slice/evil.service", "machine.slice/evil.service", "init.scope",
    )  # fmt: skip
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "file.service").write_text("")
    scan = scan_units(tmp_path)
    assert {unit: cgroup.path for unit, cgroup in scan.units.items()} == {
        "web.service": "system.slice/web.service",
        "db@1.service": "system.slice/system-db.slice/db@1.service",
    }
    assert scan.units["web.service"].cgroup_id == (tmp_path / "system.slice/web.service").stat().st_ino
    assert set(scan.slices) == {tmp_path, tmp_path / "system.slice", tmp_path / "system.slice/system-db.slice"}


def test_every_cgroup_of_a_unit_has_an_id(tmp_path: Path) -> None:
    """Those below it too, whatever they are called."""
    tree(tmp_path, "system.slice/web.service/worker/x.service", "system.slice/system-db.slice/db@1.service")
    tree(tmp_path, "user.slice/web.service", "init.scope/web.service", "system.slice/run-1.scope/web.service")
    units = {str(path.relative_to(tmp_path)): path.stat().st_ino for path in tmp_path.rglob("*")}
    scan = scan_ids(tmp_path)
    assert scan.is_whole
    assert scan.units == {
        units["system.slice/web.service"]: "web.service",
        units["system.slice/web.service/worker"]: "web.service",
        units["system.slice/web.service/worker/x.service"]: "web.service",
        units["system.slice/system-db.slice/db@1.service"]: "db@1.service",
    }


def test_what_a_user_has_below_her_slice_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand cgroups of hers cost the supervisor nothing."""
    tree(tmp_path, "system.slice/web.service/worker", *(f"user.slice/user@1.service/{n}" for n in range(50)))
    looked_at: list[str] = []
    look = cgroups._directories

    def note(directory: Path) -> Iterator[Any]:
        looked_at.append(str(directory.relative_to(tmp_path)))
        return look(directory)

    monkeypatch.setattr(cgroups, "_directories", note)
    scan_ids(tmp_path)
    assert sorted(looked_at) == [".", "system.slice", "system.slice/web.service", "system.slice/web.service/worker"]


def test_a_tree_that_is_gone_has_no_units(tmp_path: Path) -> None:
    """A cgroup may be removed while it is read."""
    assert scan_units(tmp_path / "gone").units == {}
    assert scan_ids(tmp_path / "gone") == IdScan({}, is_whole=True)


def test_a_look_that_was_cut_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not see may be a unit's all the same."""
    tree(tmp_path, "a.service/child", "b.service/child")
    for limit, is_whole in ((1, False), (100, True)):
        monkeypatch.setattr(limits, "CGROUPS_MAX", limit)
        assert scan_ids(tmp_path).is_whole is is_whole


def test_a_new_directory_in_a_watched_slice_is_told(tmp_path: Path) -> None:
    """And after it was read, nothing until the next one."""
    watch = SliceWatch()
    try:
        first = watch.watch(tmp_path)
        assert first == watch.watch(tmp_path)
        assert select.select([watch], [], [], 0)[0] == []
        (tmp_path / "web.service").mkdir()
        assert select.select([watch], [], [], 10)[0] == [watch]
        watch.clear()
        assert select.select([watch], [], [], 0)[0] == []
        assert watch.watch(tmp_path / "gone") == 0
    finally:
        watch.close()


def test_a_slice_that_was_made_anew_has_another_watch(tmp_path: Path) -> None:
    """Its old watch died with it."""
    watch = SliceWatch()
    try:
        path = tmp_path / "a.slice"
        path.mkdir()
        first = watch.watch(path)
        path.rmdir()
        path.mkdir()
        assert watch.watch(path) not in (0, first)
    finally:
        watch.close()


_MAKE_MAP = (
    "import asyncio, types\n"
    "from contextlib import AsyncExitStack\n"
    "from nodeagent.process import startup\n"
    "loop = asyncio.new_event_loop()\n"
    "Path('/proc/sys/user/max_inotify_instances').write_text('0')\n"
    "fleet, ids = types.SimpleNamespace(tell_units=print), types.SimpleNamespace(note=print)\n"
    "parts = types.SimpleNamespace(loop=loop, cgroups=Path(sys.argv[1]), fleet=fleet, cgroup_ids=ids, passed=None)\n"
    "startup._follow_units(parts, AsyncExitStack())\n"
)
_WATCH = (
    "from nodeagent.process.cgroups import SliceWatch\n"
    "Path('/proc/sys/user/max_inotify_watches').write_text('0')\n"
    "SliceWatch().watch(Path(sys.argv[1]))\n"
)


@pytest.mark.parametrize(
    ("program", "error", "sysctl"),
    [
        (_MAKE_MAP, "nodeagent.errors.ConfigError: units cannot be followed: ", "fs.inotify.max_user_instances=1024"),
        (_WATCH, "OSError: [Errno 28] inotify on ", "fs.inotify.max_user_watches=524288"),
    ],
)
def test_used_up_inotify_is_told_with_the_cure(tmp_path: Path, program: str, error: str, sysctl: str) -> None:
    """By a limit of a user namespace of its own, which says what the sysctl says."""
    program = f"import sys\nfrom pathlib import Path\n{program}"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(error)
    assert f"sysctl -w {sysctl}" in last
