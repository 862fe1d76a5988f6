"""Keys on disk: which file is believed, and that it follows what is held. The whole is in tests/e2e/test_faults_keys.py."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nodeagent import limits
from nodeagent.process import key_file
from nodeagent.process.handover import is_sealed
from nodeagent.process.key_file import KeyFile, remove_key_file, try_key_file
from tests.support.loop import run, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where keys are kept, as root has written them."""
    path = tmp_path / "keys"
    path.write_bytes(b"keys")
    path.chmod(0o600)
    return path


def give_away(path: Path) -> None:
    os.chown(path, 64901, 0)


def open_to_others(path: Path) -> None:
    path.chmod(0o640)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_hard(path: Path) -> None:
    path.with_name("elsewhere").hardlink_to(path)


def fill(path: Path) -> None:
    os.truncate(path, limits.KEYS_BYTES + 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


BAD: dict[Callable[[Path], None], str] = {
    give_away: "belongs to uid 64901, not to root", open_to_others: "its mode is 0640, not 0600", link: "no regular file",
    link_hard: "a hard link", fill: f"has {limits.KEYS_BYTES + 1} bytes", empty: "has 0 bytes",
    replace_by_directory: "no regular file", replace_by_pipe: "no regular file", replace_by_socket: "no regular file",
}  # fmt: skip


def test_what_root_has_written_comes_back_as_memory_that_nobody_can_change(path: Path) -> None:
    """Also the longest that there may be."""
    for content in (b"keys", b"k" * limits.KEYS_BYTES):
        path.write_bytes(content)
        memory = try_key_file(path)
        assert os.pread(memory, limits.KEYS_BYTES + 1, 0) == content
        assert is_sealed(memory)
        os.close(memory)


def test_where_there_is_none_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Before the first certificate."""
    with capture_logs() as log:
        assert try_key_file(tmp_path / "keys") == -1
        remove_key_file(tmp_path / "keys")
    assert log == []


@pytest.mark.parametrize("spoil", BAD, ids=lambda each: each.__name__)
def test_a_file_that_somebody_else_may_have_made_is_ignored_with_the_reason(spoil: Callable[[Path], None], path: Path) -> None:
    """Never followed, never waited for, never handed to control."""
    spoil(path)
    with capture_logs() as log:
        assert try_key_file(path) == -1
    (line,) = log
    assert (line["event"], BAD[spoil] in line["error"], line["file"]) == ("key_file_ignored", True, str(path))


def test_what_is_exchanged_between_two_looks_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control may try again and again: the second look is at what was opened."""
    good = path.lstat()
    for spoil, says in ((link, "symbolic links"), (give_away, "not to root")):
        spoil(path)
        with monkeypatch.context() as patch, capture_logs() as log:
            patch.setattr(Path, "lstat", lambda _: good)
            assert try_key_file(path) == -1
        assert says in log[0]["error"]
        path.unlink()
        path.write_bytes(b"keys")


def test_no_key_stays_where_none_may_be(path: Path) -> None:
    """Nor half a one; of a link it is the link that goes."""
    link(path)
    path.with_name("keys.new").write_bytes(b"ke")
    with capture_logs() as log:
        remove_key_file(path)
    assert [line["event"] for line in log] == ["key_file_removed"] * 2
    assert [each.name for each in path.parent.iterdir()] == ["elsewhere"]


def test_one_that_cannot_be_removed_is_named(path: Path) -> None:
    """With the cure."""
    replace_by_directory(path)
    with capture_logs() as log:
        remove_key_file(path)
    assert [(line["event"], line["cure"]) for line in log] == [("key_file_not_removed", f"if it is there: rm -r {path}")]


class Held:
    """What the supervisor holds, and its file. Owned by one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = -1
        self.file = KeyFile(asyncio.get_running_loop(), path, {}, lambda: self.memory)

    def hold(self, content: bytes) -> None:
        """Instead of what was held."""
        if self.memory >= 0:
            os.close(self.memory)
        self.memory = os.memfd_create("test")
        os.write(self.memory, content)
        self.file.save()

    async def has(self, content: bytes) -> None:
        """Returns when it is there and nobody writes any more."""
        await until(lambda: self.file.pid == 0 and self.on_disk == content, repr(content))

    @property
    def on_disk(self) -> bytes:
        """What is there now."""
        return self.path.read_bytes()


def play(path: Path, script: Callable[[Held], Awaitable[None]]) -> list[str]:
    """What was logged of `script(held)`."""

    async def whole() -> None:
        held = Held(path)
        try:
            await script(held)
        finally:
            await held.file.settle()
            if held.memory >= 0:
                os.close(held.memory)

    with capture_logs() as log:
        run(whole)
    return [f"{line['event']}: {line['error']}" for line in log]


def test_the_newest_gets_there_for_root_alone_whatever_lies_there(path: Path) -> None:
    """While one is being written the next wait, and of these the last counts."""

    async def script(held: Held) -> None:
        link(path)
        for number in range(5):
            held.hold(b"%d" % number)
        await held.has(b"4")

    assert play(path, script) == []
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid, path.is_symlink()) == (0o600, 0, False)
    assert path.with_name("elsewhere").read_bytes() == b"keys"
    memory = try_key_file(path)
    assert os.pread(memory, 10, 0) == b"4"
    os.close(memory)


@pytest.mark.parametrize(("group", "mode", "said"), [(0, 0o770, []), (0, 0o750, ["keys_not_saved: Permission denied"]), (64901, 0o770, ["keys_not_saved: Permission denied"])])
def test_it_is_written_without_any_capability(group: int, mode: int, said: list[str], path: Path) -> None:
    """In control's directory, as systemd-tmpfiles makes it: by root's group."""
    os.chown(path.parent, 64901, group)
    path.parent.chmod(mode)

    async def script(held: Held) -> None:
        held.hold(b"new")
        await until(lambda: held.file.pid == 0, "done")

    assert play(path, script) == said
    assert path.read_bytes() == (b"keys" if said else b"new")


def test_without_the_wish_nothing_is_written(tmp_path: Path) -> None:
    """The default."""

    async def script(held: Held) -> None:
        held.file.save()
        assert held.file.pid == 0

    assert play(tmp_path / "keys", script) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def blocked(path: Path) -> Iterator[Path]:
    """What is in the way of every write, until it is removed."""
    obstacle = path.with_name("keys.new")
    obstacle.mkdir()
    yield obstacle
    with suppress(FileNotFoundError):
        obstacle.rmdir()


def test_a_disk_that_does_not_take_them_is_told_once_and_tried_again(path: Path, blocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there before still is; when it takes them again, the newest gets there."""
    monkeypatch.setattr(limits, "KEY_FILE_S", 0.05)
    tries: list[int] = []
    start = key_file.start_program
    monkeypatch.setattr(key_file, "start_program", lambda *args: tries.append(1) or start(*args))
    monkeypatch.setattr(limits, "QUIET_S", 10.0)

    async def script(held: Held) -> None:
        held.hold(b"first")
        await until(lambda: len(tries) > 2, "two more tries")
        assert held.on_disk == b"keys"
        held.hold(b"second")
        os.rmdir(blocked)  # noqa: PTH106 - no pathlib in a coroutine
        await held.has(b"second")

    assert play(path, script) == ["keys_not_saved: Is a directory"]


def test_a_program_that_cannot_be_started_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of processes, which passes."""
    monkeypatch.setattr(limits, "KEY_FILE_S", 0.05)
    start, failures = key_file.start_program, [BlockingIOError(11, "no process is left")]

    def fail_once(*args: object) -> int:
        if failures:
            raise failures.pop()
        return start(*args)

    monkeypatch.setattr(key_file, "start_program", fail_once)

    async def script(held: Held) -> None:
        held.hold(b"new")
        await held.has(b"new")

    assert play(path, script) == ["keys_not_saved: [Errno 11] no process is left"]


def test_nobody_waits_for_a_disk_that_stalls(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A successor, or the end of the agent: what was there before is there."""
    monkeypatch.setattr(limits, "QUIET_S", 0.01)

    async def script(held: Held) -> None:
        held.hold(b"new")
        os.kill(held.file.pid, signal.SIGSTOP)
        await held.file.settle()
        await until(lambda: held.file.pid == 0, "it is cut off")
        assert held.on_disk == b"keys"

    assert play(path, script) == ["keys_not_saved: it was cut off by signal 9"]


@pytest.mark.parametrize(
    ("code", "says"),
    [(28, "No space left on device"), (-14, f"within {limits.KEY_FILE_S:g} s"), (-9, "signal 9"), (None, "nobody knows")],
)
def test_the_reason_is_in_words(code: int | None, says: str) -> None:
    """By the status of the program that writes."""
    assert says in key_file._reason(code)
