"""The two helper processes of the iptables backend as this process sees them: asked, answered, ended."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Self

import msgspec

from redirect.errors import RedirectError
from redirect.iptables_lines import Layout, layout_differences
from redirect.plan import FAMILIES
from redirect.rules import Family
from redirect.xtables_blob import NAMES

_ANSWER_S = 20  # both families' start, read and write take a busy host three
_READ_BYTES = 65536
_PROGRAM = (sys.executable, "-I", "-m", "redirect.iptables_helper")
_shared: "ContextVar[Helpers | None]" = ContextVar("shared", default=None)


class _Answer(msgspec.Struct):
    """What a helper makes of a request; nothing is left out, as an empty table means that nothing differs."""

    error: str
    found: Layout
    expected: Layout


@contextmanager
def shared_helpers() -> Iterator[None]:
    """All calls of this thread inside have the same processes, which end afterwards: to start them is what takes longest."""
    with Helpers() as helpers:
        token = _shared.set(helpers)
        try:
            yield
        finally:
            _shared.reset(token)


class Helpers:
    """One process per address family, started when first asked, in the network namespace of who asks. Closed by its owner."""

    def __init__(self) -> None:
        self._running: dict[Family, subprocess.Popen[bytes]] = {}

    @classmethod
    def shared(cls) -> "Helpers":
        """Those of the `shared_helpers` around this, else others; to be closed only by `close_unless_shared`."""
        return _shared.get() or cls()

    def close_unless_shared(self) -> None:
        """Ends them, unless others go on with them."""
        if self is not _shared.get():
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, deadline: float | None = None) -> None:
        """Ends them, side by side. deadline: on the monotonic clock; who lives then is killed."""
        deadline = time.monotonic() + _ANSWER_S if deadline is None else deadline
        for process in self._running.values():
            _pipe(process.stdin).close()  # which ends it
            _pipe(process.stdout).close()
        for process in self._running.values():
            _await_end(process, deadline)
        self._running.clear()

    @property
    def families(self) -> tuple[Family, ...]:
        """Those that this kernel has tables for."""
        return tuple(family for family in FAMILIES if NAMES[family].exists())

    def check(self, layouts: Mapping[Family, Layout]) -> None:
        """Has the library read the rules, and nothing more: there is no dry run in the kernel.

        Raises:
            RedirectError: it cannot; the message says why, and the cure.
        """
        self._ask("check", layouts)

    def read(self, layouts: Mapping[Family, Layout]) -> dict[Family, tuple[Layout, Layout]]:
        """What is there of ours, and what would be if the layouts were installed, in the same words."""
        return {family: (answer.found, answer.expected) for family, answer in self._ask("read", layouts).items()}

    def read_all(self) -> dict[Family, Layout]:
        """What is there of ours, of each family."""
        return {family: found for family, (found, _) in self.read({family: {} for family in self.families}).items()}

    def write(self, layouts: Mapping[Family, Layout]) -> None:
        """Makes our chains those of the layouts, one commit for each table.

        Raises:
            RedirectError: the kernel refused a table, or differs afterwards; those before it are written.
        """
        for family, answer in self._ask("write", layouts).items():
            differences = [*layout_differences(answer.found, answer.expected, family, agents=True)]
            if differences:
                raise RedirectError(f"read back, iptables differ from what was written: {'; '.join(differences)}")

    def _ask(self, what: str, layouts: Mapping[Family, Layout]) -> dict[Family, _Answer]:
        """Both at once: starting takes 0.2 s, which are the library's."""
        deadline = time.monotonic() + _ANSWER_S
        try:
            for family, layout in layouts.items():
                self._send(family, {"do": what, "layout": layout}, deadline)
            answers = {family: self._receive(family, deadline) for family in layouts}
        except BaseException:
            self.close(deadline)  # one still has an answer to this, which nobody shall take for one to the next question
            raise
        for answer in answers.values():
            if answer.error:
                raise RedirectError(answer.error)
        return answers

    def _send(self, family: Family, request: Mapping[str, object], deadline: float) -> None:
        if family not in self._running:
            command = [*_PROGRAM, str(family)]
            pipe = subprocess.PIPE
            try:
                self._running[family] = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, cwd="/")
            except OSError as error:
                raise RedirectError(f"python-iptables needs a process of its own, which cannot be started: {error}") from error
        stdin, unsent = _pipe(self._running[family].stdin), json.dumps(request).encode() + b"\n"
        while unsent:
            _await(stdin, select.POLLOUT, family, deadline)
            try:
                unsent = unsent[os.write(stdin.fileno(), unsent[: select.PIPE_BUF]) :]  # so much never blocks once there is room
            except OSError as error:
                raise RedirectError(f"the helper process for IPv{family} has ended: {error}") from error

    def _receive(self, family: Family, deadline: float) -> _Answer:
        stdout, line = _pipe(self._running[family].stdout), b""
        while not line.endswith(b"\n"):
            _await(stdout, select.POLLIN, family, deadline)
            part = os.read(stdout.fileno(), _READ_BYTES)
            if not part:
                raise RedirectError(f"the helper process for IPv{family} has ended; libxtables does that to its callers (see above)")
            line += part
        try:
            return msgspec.json.decode(line, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RedirectError(f"the helper process for IPv{family} answers nonsense: {error}") from error


def _await(pipe: IO[bytes], event: int, family: Family, deadline: float) -> None:
    poller = select.poll()
    poller.register(pipe, event)
    if not poller.poll(_left_s(deadline) * 1000):
        raise RedirectError(f"the helper process for IPv{family} did not answer within {_ANSWER_S} s")


def _left_s(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _await_end(process: "subprocess.Popen[bytes]", deadline: float) -> None:
    """It ends by itself when its standard input does; one that hangs is killed."""
    try:
        process.wait(_left_s(deadline))
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # in the kernel: init reaps it when it is out
            process.wait(1)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
