"""The record on disk: what it holds, who may hold it, what a damaged one means."""

import fcntl
import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redirect.errors import RedirectError
from redirect.plan import ALIVE_S
from redirect.record import LOCK_S, Record, decode_record, encode_record, locked_record
from redirect.routing import LocalRoute, PolicyRule

DEADLINE_S = 20.0
ACCEPT, REUSE = "net.ipv4.tcp_fwmark_accept", "net.ipv4.tcp_tw_reuse"
RECORD = Record((LocalRoute(4, 133), PolicyRule(6, 0x5B, 1330, 133)), {ACCEPT: "0", REUSE: "2"}, 15001, 15008, 0x5B)
OLDER = {"version": 1, "entries": [], "outbound_port": 15001, "tunnel_port": 15008, "upstream_mark": 91}


def test_a_record_is_read_as_it_was_written() -> None:
    """Entries by kind, and the sysctl's value before, or that it was not changed."""
    assert decode_record(encode_record(RECORD)) == RECORD
    assert decode_record(encode_record(Record())) == Record()


@pytest.mark.parametrize(("before", "sysctls"), [("0", {ACCEPT: "0"}), (None, {})])
def test_a_record_of_version_1_is_read(before: str | None, sysctls: dict[str, str]) -> None:
    """It knew one sysctl, and said None where apply had not changed it."""
    assert decode_record(json.dumps(OLDER | {"fwmark_accept": before})) == Record(sysctls=sysctls)


def test_what_is_not_ours_to_restore_is_not_read() -> None:
    """Whatever a file says, remove writes no other setting, and no value that is no number."""
    newer = OLDER | {"version": 2}
    assert decode_record(json.dumps(newer | {"sysctls": {"kernel.core_pattern": "|/tmp/x"}})) == Record()
    with pytest.raises(ValueError, match="x"):
        decode_record(json.dumps(newer | {"sysctls": {ACCEPT: "x"}}))


def test_a_record_stays_until_it_is_emptied(tmp_path: Path) -> None:
    """It is root's alone, and gone when there is nothing to remember."""
    path = tmp_path / "new" / "intercept.json"
    with locked_record(path) as file:
        assert file.read() is None
        file.write(RECORD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with locked_record(path) as file:
        assert file.read() == RECORD
        file.write(Record())
        assert file.read() == Record()
        file.write(None)
    assert not path.exists()


def test_an_unused_lock_leaves_no_file(tmp_path: Path) -> None:
    """Also when what was done under it failed."""
    path = tmp_path / "intercept.json"
    with pytest.raises(ZeroDivisionError), locked_record(path):
        raise ZeroDivisionError
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", '{"version": 2}', '{"version": 3}', '{"version": 1, "entries": [["rule", 1]]}', "\xff\xfe",
        json.dumps(OLDER | {"fwmark_accept": "0", "entries": [["rule", 5, 91, 1330, 133]]}),
        json.dumps(OLDER | {"fwmark_accept": "0", "entries": [["route", 4, "133"]]}),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_no_record(tmp_path: Path, text: str) -> None:
    """And no reason to refuse: rules must be removable after a crash."""
    path = tmp_path / "intercept.json"
    path.write_bytes(text.encode("latin-1"))
    with locked_record(path) as file:
        assert file.read() is None


def test_a_second_process_waits_and_then_gives_up_with_a_cure(tmp_path: Path) -> None:
    """Who hangs is found by `fuser`."""
    path = tmp_path / "intercept.json"
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RedirectError, match="fuser"), locked_record(path, wait_s=0.05):
            pass
    with locked_record(path, wait_s=0.05) as file:
        assert file.read() is None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Instead of an errno."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(RedirectError, match=r"file/intercept\.json cannot be opened"),
        locked_record(tmp_path / "file" / "intercept.json"),
    ):
        pass


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, *, exists: bool) -> None:
    """Whoever can write there shall not make root write elsewhere, nor keep it from working."""
    path, target = tmp_path / "intercept.json", tmp_path / "target"
    if exists:
        target.write_text(encode_record(RECORD))
    path.symlink_to(target)
    with locked_record(path) as file:
        assert file.read() is None
        file.write(Record())
    assert stat.S_ISREG(path.lstat().st_mode)
    assert target.exists() is exists
    assert not exists or decode_record(target.read_text()) == RECORD


def plant_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def plant_directory(path: Path) -> None:
    path.mkdir()
    (path / "kept").touch()


@pytest.mark.parametrize("plant", [os.mkfifo, plant_socket, plant_directory])
def test_what_is_no_file_is_replaced(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    """A directory is moved aside with what is in it: root deletes no tree that it does not know."""
    path = tmp_path / "intercept.json"
    plant(path)
    with locked_record(path, wait_s=DEADLINE_S) as file:
        assert file.read() is None
        file.write(RECORD)
    assert decode_record(path.read_text()) == RECORD
    assert [kept.parent.name.split("-")[0] for kept in tmp_path.rglob("kept")] in ([], ["intercept.json.planted"])
    assert len([*tmp_path.rglob("kept")]) == (plant is plant_directory)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of two pages, of which the record takes one and another file the other."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", tmp_path], check=True)
    try:
        with locked_record(tmp_path / "intercept.json") as file:
            file.write(RECORD)
        (tmp_path / "filler").write_bytes(bytes(4096))
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_does_not_cost_the_record(full: Path) -> None:
    """What finds no room is refused with a cure, and what was on record stays; what needs no more room is written."""
    path = full / "intercept.json"
    large = Record(tuple(LocalRoute(4, number) for number in range(1000)))
    with (
        locked_record(path) as file,
        pytest.raises(RedirectError, match=r"intercept\.json cannot be written: No space"),
    ):
        file.write(large)
    assert decode_record(path.read_text()) == RECORD
    with locked_record(path) as file:
        file.write(Record())
    assert path.read_text() == encode_record(Record())


def test_a_first_record_without_room_leaves_no_file(full: Path) -> None:
    """Apply does nothing then that nobody would remember."""
    (full / "intercept.json").rename(full / "other")
    with pytest.raises(RedirectError, match="make room"), locked_record(full / "intercept.json") as file:
        file.write(RECORD)
    assert not (full / "intercept.json").exists()


@pytest.mark.parametrize("tail", ["\0\0\0", "   "])
def test_a_write_that_did_not_finish_is_either_record(tmp_path: Path, tail: str) -> None:
    """Room that was taken and not used, or the rest of a longer record painted over: both are passed over."""
    path = tmp_path / "intercept.json"
    path.write_text(encode_record(RECORD) + tail)
    with locked_record(path) as file:
        assert file.read() == RECORD


def test_a_file_that_somebody_else_planted_is_replaced(tmp_path: Path) -> None:
    """The agent's unprivileged processes can make files in that directory: root believes none of them."""
    path, other = tmp_path / "intercept.json", tmp_path / "other"
    path.write_text(encode_record(RECORD))
    os.chown(path, 64901, 64901)
    with locked_record(path) as file:
        assert file.read() is None
    other.write_text("stays")
    path.hardlink_to(other)
    with locked_record(path) as file:
        file.write(RECORD)
    assert other.read_text() == "stays"
    assert path.stat().st_uid == 0


def test_a_supervisor_that_waits_for_another_writer_does_not_miss_its_beat() -> None:
    """Else the kernel would take it for dead."""
    assert LOCK_S < ALIVE_S
