"""The program that this one would become, and whether it is fit: a bad file or a broken version changes nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.process.child import START_ERRORS, watch_program

_UNKNOWN = -1  # a status that nobody could tell: no sign of fitness
_WORDS = 2000  # of what an unfit program printed


FIXED = ("admin.socket", "host.control_user", "host.worker_user", "intercept.cgroup_root")
"""Settings that need a restart: workers and rules of before stand on them, and the lock of the run directory."""


class ReloadRefused(Exception):
    """The program that would take over is not fit to."""


@dataclass(frozen=True, slots=True)
class Command:
    """How the program was started, and is started again."""

    program: str
    """The file as it was named: a link may mean another version by now."""
    arguments: list[str]
    """With the program's name as the first."""


def own_command(argv: Sequence[str] = sys.argv, original: Sequence[str] = sys.orig_argv) -> Command:
    """That of this very process: its script if that can be executed, else the interpreter with what it was given."""
    if os.access(argv[0], os.X_OK):
        return Command(argv[0], list(argv))
    return Command(sys.executable, [sys.executable, *original[1:]])


def check_fixed(running: Config, checked: bytes) -> None:
    """Of the successor's configuration only these are looked at, and those that its version does not have are not.

    Raises:
        ReloadRefused: one of FIXED differs.
    """
    known, wanted = msgspec.to_builtins(running), _try_tables(checked)
    changed = [key for key in FIXED if (value := _setting(wanted, key)) is not None and value != _setting(known, key)]
    if changed:
        raise ReloadRefused(f"{', '.join(changed)}: a reload cannot change this; put it back, or: systemctl restart nodeagent")


def _try_tables(checked: bytes) -> object:
    try:
        return msgspec.msgpack.decode(checked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _setting(tables: object, key: str) -> object:
    table, _, name = key.partition(".")
    part = tables.get(table) if isinstance(tables, dict) else None
    return part.get(name) if isinstance(part, dict) else None


async def check_successor(loop: asyncio.AbstractEventLoop, command: Command, environ: Mapping[str, str]) -> bytes:
    """The configuration that the program has read and checked, as only it understands it.

    Raises:
        ReloadRefused: it is unfit; with its own words.
        OSError: no descriptor is left.
    """
    with os.fdopen(os.memfd_create("nodeagent-check"), "r+b") as answer, os.fdopen(os.memfd_create("words"), "r+b") as words:
        arguments = [*command.arguments, f"--check={answer.fileno()}"]
        code = await _run(loop, command.program, arguments, environ, (answer.fileno(), words.fileno()))
        answer.seek(0)
        words.seek(0)
        if code:
            said = _last_words(words.read().decode(errors="replace"))
            raise ReloadRefused(f"{command.program} is not fit: {said or f'it ended with status {code}'}")
        return answer.read()


def _last_words(text: str) -> str:
    """In one line what a program said last; of a traceback, what was raised."""
    _, traceback, tail = text.rpartition("Traceback (most recent call last):\n")
    lines = (line for line in tail.splitlines() if not (traceback and line.startswith(" ")))
    said = "".join(each if each.isprintable() else "?" for each in " ".join(" ".join(lines).split()))  # a key of the file may hold what a terminal obeys
    if len(said) <= _WORDS:
        return said
    return f"{said[:_WORDS]}…" if traceback else f"…{said[-_WORDS:]}"


async def _run(
    loop: asyncio.AbstractEventLoop, program: str, arguments: list[str], environ: Mapping[str, str], fds: tuple[int, int]
) -> int:
    """The exit status of the program, which may write to both descriptors; the second is its standard error."""
    codes: list[int | None] = []
    child = _start(program, arguments, environ, *fds)
    child.returncode = 0  # it is reaped by pidfd
    process = watch_program(loop, child.pid, codes.append)
    try:
        async with asyncio.timeout(limits.RELOAD_CHECK_S):
            await process.ended.wait()
    except BaseException as error:
        process.signal(signal.SIGKILL)
        if not isinstance(error, TimeoutError):
            raise
        await process.ended.wait()
        raise ReloadRefused(f"{program} did not check itself within {limits.RELOAD_CHECK_S:g} s") from None
    return _UNKNOWN if codes[0] is None else codes[0]


def _start(
    program: str, arguments: list[str], environ: Mapping[str, str], answer: int, words: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            arguments, executable=program, stdin=subprocess.DEVNULL, stdout=words, stderr=words, pass_fds=(answer,),
            env=dict(environ),
        )  # fmt: skip
    except START_ERRORS as error:
        raise ReloadRefused(f"{program} cannot be started: {error}") from error
