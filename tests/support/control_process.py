"""Control as a real process: under its own uid, with supervisor and workers played by the test."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support.eventually import eventually
from tests.support.far_ends import FarEnd, hand_over, supervisor_stats, worker

UID = 64901  # control's in labs: a number without an account


class ControlProcess:
    """Use with `with`. `directory` holds configuration, state, socket and log; it belongs to the uid."""

    def __init__(self, directory: Path, catalog: str, ca_file: Path, token: str, extra: str = "") -> None:
        self.directory = directory
        self.socket = directory / "api.sock"
        self.config = directory / "nodeagent.toml"
        self.log = directory / "control.log"
        token_file = directory / "node.token"
        token_file.write_text(token)
        token_file.chmod(0o600)
        self.config.write_text(
            '[host]\nname = "host1"\naddresses = ["10.77.0.1", "fd77::1"]\n'
            f'[catalog]\naddress = "{catalog}"\nca_file = "{ca_file}"\ntoken_file = "{token_file}"\n'
            f'[admin]\nsocket = "{self.socket}"\nstate_dir = "{directory}"\nmetrics = ""\n{extra}'
        )
        for path in (directory, token_file):
            os.chown(path, UID, UID)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.supervisor = self._stack.enter_context(FarEnd())
        self.handover, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.enter_context(self.handover)
        far = self.supervisor.given_away
        argv = [
            sys.executable, "-m", "nodeagent.control", "--config", str(self.config),
            "--handover-fd", str(theirs.fileno()), "--supervisor-fd", str(far.fileno()),
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv, pass_fds=(theirs.fileno(), far.fileno()), stderr=log, stdout=log,
                user=UID, group=UID, extra_groups=[], cwd="/",
            )  # fmt: skip
        theirs.close()
        far.close()
        self.supervisor.send(supervisor_stats())
        try:
            eventually(lambda: self.socket.exists() or self.process.poll() is not None, 60, "the admin socket")
            assert self.process.poll() is None, self.said()
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self._stack.close()
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()

    def join(self, number: int = 0, rows: list | None = None) -> FarEnd:
        """A new worker's far end."""
        end = self._stack.enter_context(worker(rows))
        hand_over(self.handover, number, 4001 + number, end)
        return end

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def said(self) -> str:
        return self.log.read_text()
