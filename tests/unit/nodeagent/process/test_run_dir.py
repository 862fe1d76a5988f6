"""The run directory and its lock."""

import os
import stat
from pathlib import Path

import pytest

from nodeagent.errors import ConfigError
from nodeagent.process.privileges import User
from nodeagent.process.run_dir import check_run_dir, find_holder, lock_run_dir, prepare_run_dir, take_run_dir

CONTROL = User(64901, 64901)


def test_the_directory_is_roots_and_control_may_add_to_it_only(tmp_path: Path) -> None:
    """Sticky: what root keeps there cannot be replaced; a wrong owner is corrected."""
    path = tmp_path / "nodeagent"
    for _ in range(2):
        prepare_run_dir(path, CONTROL)
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, CONTROL.gid, 0o1775)
        os.chown(path, CONTROL.uid, CONTROL.gid)
    os.chown(path, 0, CONTROL.gid)
    path.chmod(0o770)
    (path / "api.sock").touch()
    prepare_run_dir(path, CONTROL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o1775


def test_what_intercept_apply_has_made_is_taken_over(tmp_path: Path) -> None:
    """Root's, with its record in it."""
    path = tmp_path / "nodeagent"
    path.mkdir(mode=0o755)
    (path / "intercept.json").touch()
    prepare_run_dir(path, CONTROL)
    assert path.stat().st_gid == CONTROL.gid


@pytest.mark.parametrize(
    ("owner", "mode", "content"), [(0, 0o755, "dbus"), (0, 0o1777, ""), (0, 0o775, ""), (1000, 0o755, "")]
)
def test_somebody_elses_directory_is_refused_and_stays_theirs(
    tmp_path: Path, owner: int, mode: int, content: str
) -> None:
    """As /run and /tmp are: control could replace what others keep there."""
    path = tmp_path / "shared"
    path.mkdir()
    (path / (content or ".")).mkdir(exist_ok=True)
    os.chown(path, owner, 0)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"admin\.socket: .*shared is not a directory of nodeagent's own"):
        prepare_run_dir(path, CONTROL)
    with pytest.raises(ConfigError, match=r"admin\.socket: .*shared is not a directory of nodeagent's own"):
        check_run_dir(path, CONTROL)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, 0, mode)


def test_a_check_makes_nothing_and_agrees_with_what_would_be_made(tmp_path: Path) -> None:
    """Before, after, and where it could not be made."""
    check_run_dir(tmp_path / "nodeagent", CONTROL)
    assert list(tmp_path.iterdir()) == []
    prepare_run_dir(tmp_path / "nodeagent", CONTROL)
    check_run_dir(tmp_path / "nodeagent", CONTROL)
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "nodeagent", tmp_path / "file"):
        with pytest.raises(ConfigError, match=r"admin\.socket: "):
            check_run_dir(path, CONTROL)


def test_a_path_that_is_none_of_ours_is_refused_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, below the root directory, or by way of a link that somebody may turn elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/run/nodeagent-test-run")
    for path in (Path("nodeagent"), Path(), Path("/nodeagent-test-run"), tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"admin\.socket: .* is not a directory of nodeagent's own"):
            prepare_run_dir(path, CONTROL)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    assert not Path("/nodeagent-test-run").exists()


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """With the cure."""
    with pytest.raises(ConfigError, match="systemd-tmpfiles --create"):
        prepare_run_dir(tmp_path / "gone" / "nodeagent", CONTROL)


def test_only_one_holds_the_lock_and_the_other_is_told_who(tmp_path: Path) -> None:
    """Until it lets go."""
    first = lock_run_dir(tmp_path)
    with pytest.raises(ConfigError, match=f"another nodeagent is running on this host .*process {os.getpid()}"):
        lock_run_dir(tmp_path)
    os.close(first)
    os.close(lock_run_dir(tmp_path))


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    """It is not made by the lock."""
    with pytest.raises(ConfigError, match="cannot be opened"):
        lock_run_dir(tmp_path / "gone")


def test_the_holder_is_read_from_the_kernels_table() -> None:
    """By inode; a lock of another kind is another lock."""
    table = (
        "1: POSIX  ADVISORY  WRITE 11 00:1c:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 22 00:1c:77 0 EOF\n"
        "3: FLOCK  ADVISORY  WRITE 33 00:1c:78 0 EOF\n"
    )
    assert find_holder(table, 77) == 22
    assert find_holder(table, 79) == 0
    assert find_holder("", 77) == 0


def test_a_lock_is_taken_over_with_its_descriptor(tmp_path: Path) -> None:
    """It was never free; for another directory another lock is taken, and the first one is let go."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    held = lock_run_dir(first)
    assert take_run_dir(first, held) == held
    with pytest.raises(ConfigError, match="another nodeagent"):
        lock_run_dir(first)
    other = take_run_dir(second, held)
    again = lock_run_dir(first)
    with pytest.raises(ConfigError, match="another nodeagent"):
        lock_run_dir(second)
    for fd in (other, again):
        os.close(fd)
    os.close(take_run_dir(first, 999_999))
