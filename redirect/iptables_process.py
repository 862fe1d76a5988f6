"""The two helper processes of the iptables backend as this process sees them: asked, answered, ended."""

import json
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Any, Self

from redirect.errors import RedirectError
from redirect.iptables_lines import Layout, Line, layout_differences
from redirect.plan import FAMILIES
from redirect.rules import Family
from redirect.xtables_blob import NAMES

_ANSWER_S = 20  # start, read and write take a busy host three
_PROGRAM = (sys.executable, "-I", "-m", "redirect.iptables_helper")
_shared: "ContextVar[Helpers | None]" = ContextVar("shared", default=None)


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
        self._running: dict[Family, subprocess.Popen[str]] = {}

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

    def close(self) -> None:
        """Ends them, side by side."""
        for process in self._running.values():
            with suppress(OSError):  # one that has ended
                _pipe(process.stdin).close()  # which ends it
        for process in self._running.values():
            _pipe(process.stdout).close()
            _await_end(process)
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
        return {family: (_layout(a["found"]), _layout(a["expected"])) for family, a in self._ask("read", layouts).items()}

    def read_all(self) -> dict[Family, Layout]:
        """What is there of ours, of each family."""
        return {family: found for family, (found, _) in self.read({family: {} for family in self.families}).items()}

    def write(self, layouts: Mapping[Family, Layout]) -> None:
        """Makes our chains those of the layouts, one commit for each table.

        Raises:
            RedirectError: the kernel refused a table, or differs afterwards; those before it are written.
        """
        for family, answer in self._ask("write", layouts).items():
            differences = [*layout_differences(_layout(answer["found"]), _layout(answer["expected"]), family, agents=True)]
            if differences:
                raise RedirectError(f"read back, iptables differ from what was written: {'; '.join(differences)}")

    def _ask(self, what: str, layouts: Mapping[Family, Layout]) -> dict[Family, dict[str, Any]]:
        """Both at once: starting takes 0.2 s, which are the library's."""
        try:
            for family, layout in layouts.items():
                self._send(family, {"do": what, "layout": layout})
            answers = {family: self._receive(family) for family in layouts}
        except RedirectError:
            self.close()  # one still has an answer to this, which nobody shall take for one to the next question
            raise
        for answer in answers.values():
            if "error" in answer:
                raise RedirectError(answer["error"])
        return answers

    def _send(self, family: Family, request: Mapping[str, object]) -> None:
        if family not in self._running:
            command = [*_PROGRAM, str(family)]
            pipe = subprocess.PIPE
            try:
                self._running[family] = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd="/")
            except OSError as error:
                raise RedirectError(f"python-iptables needs a process of its own, which cannot be started: {error}") from error
        try:
            stdin = _pipe(self._running[family].stdin)
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except OSError as error:
            raise RedirectError(f"the helper process for IPv{family} has ended: {error}") from error

    def _receive(self, family: Family) -> dict[str, Any]:
        stdout, poller = _pipe(self._running[family].stdout), select.poll()
        poller.register(stdout, select.POLLIN)
        if not poller.poll(_ANSWER_S * 1000):
            self._running[family].kill()
            raise RedirectError(f"the helper process for IPv{family} did not answer within {_ANSWER_S} s")
        line = stdout.readline()
        if not line:
            raise RedirectError(f"the helper process for IPv{family} has ended; libxtables does that to its callers (see above)")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _await_end(process: "subprocess.Popen[str]") -> None:
    """It ends by itself when its standard input does; one that hangs is killed."""
    try:
        process.wait(_ANSWER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # in the kernel: init reaps it when it is out
            process.wait(1)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _layout(decoded: dict[str, Any]) -> Layout:
    return {t: {chain: [Line(*line) for line in lines] for chain, lines in chains.items()} for t, chains in decoded.items()}
