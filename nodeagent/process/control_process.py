"""The supervisor's side of control: starts it, hands workers' channels over, hears what to capture, tells figures."""

import array
import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from nodeagent import limits
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process import privileges
from nodeagent.process.capture import Capture, check_capture
from nodeagent.process.child import Process, start_program
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.worker_process import WorkerProcess
from nodeagent.wire.frames import CaptureFrame, FrameReader, Message, SupervisorStats, encode_frame

_log = open_log()
_HANDOVER = struct.Struct("=II")  # worker's number, pid; beside it: one descriptor
_READ_BYTES = 256 * 1024


class ControlProcess:
    """Control, started again whenever it ends; traffic goes on without it. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, config_path: Path, user: privileges.User, environ: Mapping[str, str],
        workers: Callable[[], list[WorkerProcess]], on_capture: Callable[[Capture], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._config_path = config_path
        self._user = user
        self._environ = environ
        self._workers = workers
        self._on_capture = on_capture
        self._exits: tuple[float, ...] = ()
        self._process: Process | None = None
        self._channel: socket.socket | None = None
        self._handover: socket.socket | None = None
        self._frames = FrameReader(limits.CONTROL_FRAME_BYTES)
        self._unsent = b""
        self._is_wanted = True

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process and not self._process.ended.is_set() else 0

    def start(self) -> None:
        """Starts it and gives it a channel to every worker that lives."""
        if not self._is_wanted:
            return
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._handover, handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._frames, self._unsent = FrameReader(limits.CONTROL_FRAME_BYTES), b""
        fds = (handover.fileno(), channel.fileno())
        arguments = ["--config", str(self._config_path), "--handover-fd", str(fds[0]), "--supervisor-fd", str(fds[1])]
        with channel, handover:
            pid = start_program("nodeagent.control", arguments, fds, self._environ, self._become)
        self._process = Process(self._loop, pid, os.pidfd_open(pid), self._end)
        for ours in (self._channel, self._handover):
            ours.setblocking(False)
        self._loop.add_reader(self._channel, self._receive)
        _log.info("control_started", pid=pid)
        for worker in self._workers():
            if worker.pid:
                self.hand_over(worker)

    def hand_over(self, worker: WorkerProcess) -> None:
        """Gives control its end of the channel to a worker: the one the worker was born with, or a new one."""
        if self._handover is None:
            return
        passed = worker.for_control or worker.renew_control()
        worker.for_control = None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [passed.fileno()]))]
        try:
            with passed:
                self._handover.sendmsg([_HANDOVER.pack(worker.number, worker.pid)], rights)
        except OSError as error:
            self._replace(f"takes no worker: {error.strerror}")

    def tell(self, stats: SupervisorStats) -> None:
        """Sends the figures; those that do not fit into the channel are left out, the next ones say it all."""
        if self._channel is None:
            return
        frame = self._unsent or encode_frame(stats)
        try:
            self._unsent = frame[self._channel.send(frame) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._replace(f"cannot be written to: {error.strerror}")

    async def stop(self) -> None:
        """Ends it, with force if it does not go."""
        self._is_wanted = False
        if self._process:
            self._process.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(limits.CUT_S):
                    await self._process.ended.wait()
            except TimeoutError:
                self._kill()
                await self._process.ended.wait()
        self._close()

    def _become(self) -> None:
        privileges.limit_resources()
        privileges.become(self._user)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(_READ_BYTES)
            for message in self._frames.feed(data):
                self._on_capture(_capture_in(message))
            if not data:  # it ends, or it is broken
                self._close()
                self._kill()
        except BlockingIOError:
            return
        except FrameError as error:
            self._replace(f"sent nonsense: {error}")
        except OSError as error:
            self._replace(f"cannot be read: {error.strerror}")

    def _replace(self, why: str) -> None:
        """Its end, which follows, starts another."""
        _log.error("control_cut", why=f"it {why}")
        self._close()
        self._kill()

    def _kill(self) -> None:
        if self._process:
            self._process.signal(signal.SIGKILL)

    def _close(self) -> None:
        if self._channel is not None:
            self._loop.remove_reader(self._channel)
            self._channel.close()
        if self._handover is not None:
            self._handover.close()
        self._channel = self._handover = None

    def _end(self, code: int | None) -> None:
        self._close()
        if not self._is_wanted:
            return
        now = self._loop.time()
        self._exits = remember_exit(self._exits, now)
        next_at = start_at(self._exits, now)
        _log.error("control_exited", code=code, restart_in_s=round(next_at - now, 3))
        self._loop.call_at(next_at, self.start)


def _capture_in(message: Message) -> Capture:
    """What may be captured, from the one message that control may send."""
    if not isinstance(message, CaptureFrame):
        raise FrameError(f"a {type(message).__name__}, which is not control's to send")
    return check_capture(message)
