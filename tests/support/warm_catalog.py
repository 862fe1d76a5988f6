"""Catalogs as processes of their own that start in milliseconds: forks of one that has imported everything.

As a program it reads a line for each: `fork ARGV…` as JSON forks a `nodeagent catalog`, `wait PID` waits for its end.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.catalog_process import Client

ROOT = Path(__file__).parents[2]


class Nursery:
    """The process that forks them. Ended by whoever holds this."""

    def __init__(self) -> None:
        argv = [sys.executable, "-m", "tests.support.warm_catalog"]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, verb, what):
        self.process.stdin.write(f"{json.dumps([verb, what])}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclass
class WarmCatalog:
    """One catalog. It waits for `go` before it begins, so that a tracer can be put on it."""

    nursery: Nursery
    data: Path
    pid: int = 0
    ready: str = field(default="", init=False)
    status: int | None = field(default=None, init=False)

    def fork(self):
        for name in ("go", "ready"):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path(name))
        argv = ["catalog", "--data", str(self.data), "--listen", "127.0.0.1:0", "--plain"]
        paths = [str(self._path(name)) for name in ("go", "ready", "log")]
        self.pid = self.nursery.ask("fork", [*paths, *argv])
        return self

    def go(self):
        """Its line when it answers; empty: it ended before."""
        self._path("go").write_text("go")
        with self._path("ready").open() as said:
            self.ready = said.readline()
        return self.ready

    def client(self):
        address = self.ready.split(" on http://")[1].split()[0]
        return Client(address, (self.data / "management.token").read_text().strip())

    def log(self):
        return self._path("log").read_text()

    def end(self):
        """Its exit status, negative: by which signal. It is ended if it has not by itself."""
        if self.status is None:
            if self.ready:  # a child that nobody has waited for keeps its number
                os.kill(self.pid, signal.SIGKILL)
            self.status = self.nursery.ask("wait", self.pid)
        return self.status

    def _path(self, name):
        return self.data.with_name(f"{self.data.name}.{name}")


def _run(go, ready, log, argv):
    Path(go).read_text()
    # Opened for both: nobody reads yet, or ever, and the one who does is to see its end with ours.
    for path, number in ((log, 2), (ready, 1)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    sys.argv = ["nodeagent", *argv]
    from nodeagent.__main__ import main

    main()


def _fork(words):
    go, ready, log, *argv = words
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.close(0)
        _run(go, ready, log, argv)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def _main():
    import nodeagent.cli.catalog
    import nodeagent.cli.main  # noqa: F401 - what each fork would import

    for line in sys.stdin:
        verb, what = json.loads(line)
        print(_fork(what) if verb == "fork" else os.waitstatus_to_exitcode(os.waitpid(what, 0)[1]), flush=True)


if __name__ == "__main__":
    _main()
