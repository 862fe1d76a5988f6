"""What one supervisor leaves to the next, across execve: one versioned value in memory, and open descriptors.

The numbers of descriptors stand in the value. A successor that does not know the value's version starts as after a
crash: it finds the listening sockets among what it was left, and closes the rest.
"""

import fcntl
import os
import stat
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

import msgspec

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.errors import ConfigError
from nodeagent.process.capture import Capture
from nodeagent.process.notify import is_main
from nodeagent.wire.key_memory import SEALS

VERSION = 1
_MARKS_VERSION = 1  # of what the service manager keeps, which outlives a VERSION that is not known
VARIABLE = "NODEAGENT_HANDOVER"
_STDERR = 2
_FD_DIR = Path("/proc/self/fd")


class PassedSet(msgspec.Struct, frozen=True):
    """A set of listening sockets: what it is called in the service manager's store, and its descriptors."""

    name: str
    descriptors: tuple[int, ...]


class PassedSlot(msgspec.Struct, frozen=True):
    """A slot with its sets, the workers that accept from them, and its history."""

    sets: tuple[PassedSet, ...]
    workers: tuple[int, ...]
    """Their serials."""
    exits: tuple[float, ...]
    restarts: int


class PassedWorker(msgspec.Struct, frozen=True):
    """A worker that lives on. Times are of the monotonic clock, which goes on."""

    number: int
    serial: int
    pid: int
    pidfd: int
    channel: int
    state: str
    is_informed: bool
    generation: int
    version: str
    started_at: float
    """Unix seconds."""
    drain_until: float
    """0: no end is set."""
    asks: dict[int, int]
    """Batches of prepared sockets that it waits for, by family."""
    lifeline: str = ""
    """What the service manager calls its channel to whoever comes after a crash; empty: it keeps none."""


class PassedMarks(msgspec.Struct, frozen=True):
    """What the kernel's stamps mean: never given another meaning while a worker lives that knows this one."""

    mark_of: dict[str, int]
    gone: tuple[str, ...]
    """Units without a cgroup, longest gone first."""


class Handover(msgspec.Struct, frozen=True):
    """All of it."""

    generation: int
    version: str
    started_at: float
    run_dir: int
    slots: tuple[PassedSlot, ...]
    workers: tuple[PassedWorker, ...]
    marks: PassedMarks
    capture: Capture
    control_exits: tuple[float, ...]
    spawner_exits: tuple[float, ...]
    serial: int
    """Of the last worker that was ordered."""
    keys: int = -1
    """Control's memory of keys; -1: it has left none."""
    basis: bytes = b""
    """The configuration on which the capture's exceptions stand (`interception.basis_of`)."""
    start: str = ""
    """The name of the start that this one goes on with (`process/starts`); empty: it had none."""
    config: bytes = b""
    """As the successor itself has read and checked it; its predecessor looks only at what a reload cannot change."""


class Inheritance(msgspec.Struct, frozen=True):
    """What this process was left."""

    value: Handover | None
    """None: it was of a version that is not known here."""
    config: Config | None = None
    strays: tuple[int, ...] = ()
    """All sockets, where nobody can tell what they are."""


_decoder = msgspec.msgpack.Decoder(Handover)


def encode_handover(value: Handover) -> bytes:
    """One byte of version, then MessagePack."""
    return bytes([VERSION]) + msgspec.msgpack.encode(value)


def try_decode_handover(data: bytes) -> Handover | None:
    """The value; None: another version, or garbage."""
    if not data or data[0] != VERSION:
        return None
    try:
        return _decoder.decode(data[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def encode_marks(marks: PassedMarks) -> bytes:
    """As a value of its own, for a successor that comes after a crash."""
    return bytes([_MARKS_VERSION]) + msgspec.msgpack.encode(marks)


def try_decode_marks(data: bytes) -> PassedMarks | None:
    """The marks; None: another version, or garbage."""
    if not data or data[0] != _MARKS_VERSION:
        return None
    try:
        return msgspec.msgpack.decode(data[1:], type=PassedMarks)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def descriptors_of(value: Handover) -> tuple[int, ...]:
    """Every descriptor that must stay open for it."""
    workers = [fd for worker in value.workers for fd in (worker.pidfd, worker.channel)]
    listeners = [fd for slot in value.slots for each in slot.sets for fd in each.descriptors]
    return tuple(fd for fd in (value.run_dir, value.keys, *workers, *listeners) if fd >= 0)


def take_inheritance(environ: MutableMapping[str, str]) -> Inheritance | None:
    """What a predecessor left to this process; None: it is the first. The variable is gone afterwards.

    Raises:
        ConfigError: nobody here knows what it is, and systemd, which starts the agent again, has all of it in its store.
    """
    text = environ.pop(VARIABLE, "")
    if not text.isdecimal():
        return None
    try:
        with os.fdopen(int(text), "rb") as file:
            value = try_decode_handover(file.read())
    except OSError:
        value = None
    if value is None and is_main(environ, os.getpid()):
        raise ConfigError("the program before has left what this one does not know: to be started anew with all that systemd keeps, as after a crash")
    keep_on_exec(())
    return Inheritance(value, _try_config(value.config)) if value else Inheritance(None, strays=_keep_sockets())


def replace_self(value: Handover, program: str, arguments: list[str], environ: Mapping[str, str]) -> None:
    """Becomes the successor; returns only by raising.

    Raises:
        OSError: the program cannot be executed; nothing has changed.
    """
    memory = os.memfd_create("nodeagent-handover", os.MFD_CLOEXEC)
    try:
        os.write(memory, encode_handover(value))
        os.lseek(memory, 0, os.SEEK_SET)
        keep_on_exec((*descriptors_of(value), memory))
        os.execve(program, arguments, {**environ, VARIABLE: str(memory)})  # noqa: S606 - it is this very program
    except BaseException:
        os.close(memory)
        keep_on_exec(())
        raise


def keep_on_exec(kept: Iterable[int]) -> None:
    """These descriptors, and 0 to 2, outlive execve; all others end with it, whichever library opened them."""
    chosen = frozenset(kept)
    for fd in open_descriptors():
        try:
            os.set_inheritable(fd, fd in chosen)
        except OSError:
            continue


def open_descriptors() -> list[int]:
    """Those of this process above 2, without the one by which they are listed."""
    listed = [int(name) for name in os.listdir(_FD_DIR)]  # noqa: PTH208 - numbers, not paths
    return [fd for fd in listed if fd > _STDERR and _is_open(fd)]


def is_sealed(fd: int) -> bool:
    """Whether it is memory of a bearable size that nobody can change any more."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS and os.fstat(fd).st_size <= limits.KEYS_BYTES
    except OSError:
        return False


def _keep_sockets() -> tuple[int, ...]:
    """All that is open, without what cannot be a listener: locks, memory and processes are let go."""
    sockets = [fd for fd in open_descriptors() if stat.S_ISSOCK(os.fstat(fd).st_mode)]
    for fd in open_descriptors():
        if fd not in sockets:
            os.close(fd)
    return tuple(sockets)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _try_config(data: bytes) -> Config | None:
    try:
        return msgspec.msgpack.decode(data, type=Config) if data else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
