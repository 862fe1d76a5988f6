"""What crosses an exec, as a value and for real."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from nodeagent.config import parse_config
from nodeagent.errors import ConfigError
from nodeagent.process import handover
from nodeagent.process.capture import Capture
from nodeagent.process.handover import (
    VARIABLE,
    VERSION,
    Handover,
    PassedMarks,
    PassedSet,
    PassedSlot,
    PassedWorker,
    descriptors_of,
    encode_handover,
    keep_on_exec,
    open_descriptors,
    take_inheritance,
    try_decode_handover,
)

CONFIG = parse_config('[host]\nname = "h"\naddresses = ["10.0.0.1"]\n[catalog]\naddress = "https://c:8501"\n', "test")
WORKER = PassedWorker(0, 4, 100, 11, 12, "serving", True, 3, "1.0", 5.0, 0.0, {4: 1, 6: 0})
VALUE = Handover(
    generation=3, version="1.0", started_at=1.0, run_dir=10,
    slots=(PassedSlot((PassedSet("listeners-0", (13, 14)),), (4,), (1.0, 2.0), 1),), workers=(WORKER,),
    marks=PassedMarks({"web.service": 0x5A000001}, ("old.service",)), capture=Capture(("10.0.0.2",), (80,)),
    control_exits=(3.0,), spawner_exits=(), serial=4, basis=b"[]", config=msgspec.msgpack.encode(CONFIG),
)  # fmt: skip


def test_a_value_is_the_same_on_the_other_side() -> None:
    """And names every descriptor that must cross; no memory of keys is none."""
    assert try_decode_handover(encode_handover(VALUE)) == VALUE
    assert sorted(descriptors_of(VALUE)) == [10, 11, 12, 13, 14]
    assert sorted(descriptors_of(msgspec.structs.replace(VALUE, keys=15))) == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize("data", [b"", bytes([VERSION]), bytes([VERSION + 1]) + encode_handover(VALUE)[1:], b"\x01garbage"])
def test_a_value_that_is_not_understood_is_none(data: bytes) -> None:
    """It is not half believed."""
    assert try_decode_handover(data) is None


def memory_of(data: bytes) -> str:
    """A descriptor as it stands in the environment."""
    fd = os.memfd_create("test")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return str(fd)


def test_an_inheritance_is_taken_once_with_the_configuration_that_was_checked() -> None:
    """The variable must not reach children; without it this is the first start."""
    environ = {VARIABLE: memory_of(encode_handover(VALUE)), "PATH": "/bin"}
    inheritance = take_inheritance(environ)
    assert inheritance
    assert (inheritance.value, inheritance.config, inheritance.strays) == (VALUE, CONFIG, ())
    assert environ == {"PATH": "/bin"}
    assert take_inheritance(environ) is None
    assert take_inheritance({VARIABLE: "nonsense"}) is None


def test_what_cannot_be_told_apart_is_listed_if_it_may_be_a_listener() -> None:
    """All else is let go, such as the lock of the run directory: in a process of its own, which has nothing else."""
    code = (
        "import fcntl, os, socket, sys\n"
        "from nodeagent.process.handover import take_inheritance\n"
        "kept, lock = socket.create_server(('127.0.0.1', 0)), os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "memory = os.memfd_create('test'); os.write(memory, b'\\xff'); os.lseek(memory, 0, 0)\n"
        "inheritance = take_inheritance({'NODEAGENT_HANDOVER': str(memory)})\n"
        "assert inheritance.value is None and inheritance.strays == (kept.fileno(),), inheritance\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=True, cwd=Path(__file__).parents[4])


def test_what_is_not_understood_is_systemds_to_mend() -> None:
    """It starts the agent again and gives it what it keeps; nothing is touched here."""
    environ = {VARIABLE: str(memory_of(b"\xff")), "NOTIFY_SOCKET": "/x", "SYSTEMD_EXEC_PID": str(os.getpid())}
    before = open_descriptors()
    with pytest.raises(ConfigError, match="as after a crash"):
        take_inheritance(environ)
    assert len(open_descriptors()) == len(before) - 1
    environ[VARIABLE] = str(memory_of(encode_handover(VALUE)))
    assert take_inheritance(environ)


def test_a_configuration_that_only_a_newer_version_understands_is_read_anew() -> None:
    """The rest holds."""
    inheritance = take_inheritance({VARIABLE: memory_of(encode_handover(msgspec.structs.replace(VALUE, config=b"x")))})
    assert inheritance
    assert (inheritance.value is None, inheritance.config) == (False, None)


def test_only_what_is_passed_crosses_an_exec(tmp_path: Path) -> None:
    """Whoever opened the rest, and however."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nimport os, sys\nprint(*sorted(os.listdir('/proc/self/fd'), key=int), *sys.argv[1:])\n")
    program.chmod(0o755)
    kept, leaked = socket.socket(), os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        keep_on_exec([kept.fileno()])
        assert os.get_inheritable(kept.fileno())
        assert not os.get_inheritable(leaked)
        done = subprocess.run([program, "x"], capture_output=True, text=True, check=True, close_fds=False)
        assert str(kept.fileno()) in done.stdout.split()
        assert str(leaked) not in done.stdout.split()
        keep_on_exec(())
        assert not os.get_inheritable(kept.fileno())
    finally:
        kept.close()
        os.close(leaked)


def test_a_program_that_is_not_there_changes_nothing() -> None:
    """What was prepared is undone."""
    before = open_descriptors()
    empty = msgspec.structs.replace(VALUE, run_dir=-1, slots=(), workers=())
    with pytest.raises(FileNotFoundError):
        handover.replace_self(empty, "/no/such/program", ["x"], {})
    assert open_descriptors() == before
