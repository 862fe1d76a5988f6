"""A worker's lifeline: a second channel, kept by the service manager, by which the next supervisor speaks to it after a crash.

Nobody speaks through it before: nothing in it is half said, and it has one supervisor. Its name says whose it is.
"""

import os
import re
import select
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from nodeagent.process.handover import PassedWorker
from nodeagent.process.orphans import Kin, born_tick, is_orphan

Keep = Callable[[str, Sequence[int]], object]
"""Has the service manager keep descriptors under a name."""

PREFIX = "worker-"
_NAME = re.compile(PREFIX + r"(\d{1,18})-(\d{1,9})-(\d{1,9})-(\d{1,18})-(\d{1,9})-([!-9;-~]{0,64})-(\d{1,12}\.\d{3})", re.ASCII)


class Holder(NamedTuple):
    """Whose it is."""

    serial: int
    number: int
    pid: int
    born_tick: int
    """With the pid, tells it from whoever gets that number later."""
    generation: int
    version: str
    started_at: float
    """Unix seconds."""


def name_of(holder: Holder) -> str:
    """What the service manager calls it."""
    *parts, started_at = holder
    return f"{PREFIX}{'-'.join(map(str, parts))}-{started_at:.3f}"


def try_holder(name: str) -> Holder | None:
    """Whose lifeline has that name; None: it is none, or another version's."""
    if (found := _NAME.fullmatch(name)) is None:
        return None
    *numbers, version, started_at = found.groups()
    serial, number, pid, tick, generation = map(int, numbers)
    return Holder(serial, number, pid, tick, generation, version, float(started_at))


def last_of(names: Iterable[str]) -> tuple[int, int]:
    """The youngest generation and the last serial among their holders; 0, 0: there is none."""
    holders = list(filter(None, map(try_holder, names)))
    return max((each.generation for each in holders), default=0), max((each.serial for each in holders), default=0)


def make_lifeline(name: str, keep: Keep) -> socket.socket:
    """The worker's end of a new one.

    Raises:
        OSError: no descriptor is left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        keep(name, [ours.fileno()])
    return theirs


def take_lifelines(stored: Iterable[tuple[str, int]], kin: Kin, drain_until: float) -> Iterator[PassedWorker]:
    """The workers at the other ends, as far as they live and hear; every other descriptor is closed.

    drain_until: of the loop's clock, when they should be done at the latest.
    """
    taken: set[int] = set()
    for name, fd in stored:
        holder = try_holder(name)
        pidfd = -1 if holder is None or _is_cut(fd) else _try_pidfd(holder, kin, taken)
        if holder is None or pidfd < 0:
            os.close(fd)
            continue
        taken.add(holder.pid)
        os.set_inheritable(fd, False)
        yield PassedWorker(
            holder.number, holder.serial, holder.pid, pidfd, fd, "draining", True, holder.generation, holder.version,
            holder.started_at, drain_until, {},
        )  # fmt: skip


def _try_pidfd(holder: Holder, kin: Kin, taken: Collection[int]) -> int:
    """Of the very process, if it is still one of the agent's workers; else -1. Looked at once its number cannot become another's."""
    if holder.pid in taken:
        return -1
    try:
        pidfd = os.pidfd_open(holder.pid)
    except OSError:
        return -1
    if born_tick(holder.pid) == holder.born_tick and is_orphan(holder.pid, kin):
        return pidfd
    os.close(pidfd)
    return -1


def _is_cut(fd: int) -> bool:
    """Whether it is no such channel, or nobody holds the other end."""
    poller = select.poll()
    poller.register(fd, 0)
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return True
    kind = (sock.family, sock.type)
    sock.detach()
    return kind != (socket.AF_UNIX, socket.SOCK_SEQPACKET) or bool(poller.poll(0))
