"""The supervisor's side of control: starts it, hands workers' channels over, hears what to capture, tells figures."""

import array
import asyncio
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nodeagent import limits
from nodeagent.config import Config
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process import privileges
from nodeagent.process.capture import Capture, check_capture
from nodeagent.process.channel import PASSING
from nodeagent.process.child import START_ERRORS, Process, closing_memory, start_program, watch_program
from nodeagent.process.handover import is_sealed
from nodeagent.process.hearing import Hearing
from nodeagent.process.restart import remember_exit, start_at
from nodeagent.process.seldom import Seldom
from nodeagent.process.worker_process import State, WorkerProcess
from nodeagent.wire.frames import CaptureFrame, FrameReader, Message, NoSnapshot, SupervisorStats, encode_frame
from nodeagent.wire.key_memory import KEYS

_log = open_log()
_HANDOVER = struct.Struct("=II")  # worker's number, pid; beside it: one descriptor
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """How control is started."""

    config: Config
    """That was checked: each control decides by it, whatever has become of the file meanwhile."""
    config_path: Path
    """Where it was read, for whoever looks at the process."""
    user: privileges.User
    environ: Mapping[str, str]


class ControlProcess:
    """Control, started again whenever it ends; traffic goes on without it. Owned by the supervisor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, program: Program,
        workers: Callable[[], list[WorkerProcess]], on_capture: Callable[[Capture], None],
        on_keys: Callable[[int], None] = lambda _: None, keys: int = -1,
    ) -> None:  # fmt: skip
        """`on_keys` is told the descriptor of control's memory of keys, which stays ours; `keys`: that of an earlier one."""
        self._loop = loop
        self._program = program
        self._workers = workers
        self._on_capture = on_capture
        self._on_keys = on_keys
        self.exits: tuple[float, ...] = ()
        """When it ended, as far as that can matter."""
        self.keys = keys
        """Its memory of keys, for its successors; never looked into here."""
        self._process: Process | None = None
        self._channel: socket.socket | None = None
        self._handover: socket.socket | None = None
        self._frames = FrameReader(limits.CONTROL_FRAME_BYTES)
        self._unsent = b""
        self._has_spoken = self._has_policy = False
        self.hearing = Hearing(loop.time)
        self._await_until = loop.time() + limits.RESUME_MAX_S
        """Until then the first one may let workers hear policy; when it has spoken that takes moments."""
        self._late: set[WorkerProcess] = set()
        """Workers whose channel could not be passed yet."""
        self._is_wanted = True
        self._restart_timer: asyncio.TimerHandle | None = None
        self._complaint = Seldom(loop.time)

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process and not self._process.ended.is_set() else 0

    @property
    def is_awaited(self) -> bool:
        """Whether workers may yet hear policy from the first control: it has not ended, nor said that it has none."""
        return bool(self.pid) and not self.exits and self._loop.time() < self._await_until

    @property
    def is_mute(self) -> bool:
        """Whether workers hear nothing of it now: it does not run, starts, or reads nothing."""
        return not self._has_spoken or self.hearing.is_deaf

    @property
    def tells_policy(self) -> bool:
        """Whether workers that know no policy hear it in moments: it has some, and is not mute."""
        return self._has_policy and not self.is_mute

    def start(self) -> None:
        """Starts it, unless it runs, and gives it a channel to every worker that lives.

        One that cannot be started now is tried again as one that ended.
        """
        if not self._is_wanted or self.pid:
            return
        try:
            self._launch()
        except START_ERRORS as error:
            _log.error("control_not_started", error=str(error))
            self._end(None)
            return
        _log.info("control_started", pid=self.pid)
        for worker in self._workers():
            if worker.pid:
                self.hand_over(worker)

    def hand_over(self, worker: WorkerProcess) -> None:
        """Gives control its end of the channel to a worker: the one the worker was born with, or a new one."""
        if self._handover is None or not worker.pid or worker.state == State.DEAD:
            return
        try:
            worker.for_control = worker.for_control or worker.renew_control()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [worker.for_control.fileno()]))]
            self._handover.sendmsg([_HANDOVER.pack(worker.number, worker.pid)], rights)
        except OSError as error:
            if error.errno in PASSING or isinstance(error, BlockingIOError):
                self._late.add(worker)
                self._loop.call_later(limits.RESEND_S, self._hand_over_late, worker)
            else:
                self._replace(f"takes no worker: {error.strerror}")
            return
        self._late.discard(worker)
        worker.for_control.close()
        worker.for_control = None

    def _hand_over_late(self, worker: WorkerProcess) -> None:
        """Unless its channel has been handed over meanwhile."""
        if worker in self._late:
            self._late.remove(worker)
            self.hand_over(worker)

    def _launch(self) -> None:
        """Raises one of START_ERRORS; `_close` closes what is open then."""
        program = self._program
        with ExitStack() as theirs:
            self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            theirs.enter_context(channel)
            self._handover, handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.enter_context(handover)
            config = theirs.enter_context(closing_memory("nodeagent-config", msgspec.msgpack.encode(program.config)))
            fds = {"--config-fd": config, "--handover-fd": handover.fileno(), "--supervisor-fd": channel.fileno()}
            fds |= {"--keys-fd": self.keys} if self.keys >= 0 else {}
            options = [f"{option}={fd}" for option, fd in fds.items()]
            arguments = [f"--config={program.config_path}", *options]
            pid = start_program("nodeagent.control", arguments, tuple(fds.values()), program.environ, self._become)
        self._process = watch_program(self._loop, pid, self._end)
        self._frames, self._unsent = FrameReader(limits.CONTROL_FRAME_BYTES), b""
        for ours in (self._channel, self._handover):
            ours.setblocking(False)
        self._loop.add_reader(self._channel, self._receive)
        self._loop.add_reader(self._handover, self._receive_keys)

    def tell(self, stats: SupervisorStats) -> None:
        """Sends the figures; those that do not fit into the channel are left out, the next ones say it all.

        One that has read none for long hears no denies either, and is replaced.
        """
        if self._channel is None:
            return
        self.hearing.note(self.pid, has_read=not _count_unread(self._channel), has_spoken=self._has_spoken)
        if self.hearing.is_lost:
            self.hearing.give_up()
            self._replace("hangs: it has read nothing for long")
            return
        frame = self._unsent or encode_frame(stats)
        try:
            self._unsent = frame[self._channel.send(frame) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._replace(f"cannot be written to: {error.strerror}")

    def revive(self) -> None:
        """Starts it again after a stop."""
        self._is_wanted = True
        self.start()

    async def stop(self) -> None:
        """Ends it, with force if it does not go; who does not even then is left behind."""
        self._is_wanted = False
        if self._restart_timer:
            self._restart_timer.cancel()
        if self._process:
            await self._process.end("control")
        self._close()

    def _become(self) -> None:
        privileges.limit_resources()
        privileges.become(self._program.user)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(_READ_BYTES)
            for message in self._frames.feed(data):
                self._heed(message)
            if not data:  # it ends, or it is broken
                self._receive_keys()
                self._close()
                self._kill()
        except BlockingIOError:
            return
        except FrameError as error:
            self._replace(f"sent nonsense: {error}")
        except OSError as error:
            self._replace(f"cannot be read: {error.strerror}")

    def _heed(self, message: Message) -> None:
        if isinstance(message, NoSnapshot):
            self._await_until = 0.0
        else:
            self._await_until = min(self._await_until, self._loop.time() + limits.RESUME_S)
            self._on_capture(_capture_in(message))
        self._has_spoken, self._has_policy = True, not isinstance(message, NoSnapshot)

    def _receive_keys(self) -> None:
        """Takes the newest keys that wait, then none for KEYS_GAP_S: each are work for the service manager, too."""
        handover = self._handover
        if handover is None:
            return
        count = 0
        try:
            while count < limits.CHANNEL_TURN:
                self._hold(_receive_memory(handover))
                count += 1
        except BlockingIOError:
            pass
        except EOFError:
            self._loop.remove_reader(handover)
        except FrameError as error:
            self._replace(str(error))
            return
        if count:
            if self.keys >= 0:
                self._on_keys(self.keys)
            self._loop.remove_reader(handover)
            self._loop.call_later(limits.KEYS_GAP_S, self._await_keys, handover)

    def _await_keys(self, handover: socket.socket) -> None:
        """Unless that control has been replaced meanwhile."""
        if handover is self._handover:
            self._loop.add_reader(handover, self._receive_keys)

    def _hold(self, memory: int) -> None:
        """Instead of what was held. Our own want of descriptors is not control's fault."""
        if memory >= 0:
            self.forget_keys()
            self.keys = memory
        elif self._complaint.is_due():
            _log.warning("keys_not_kept", error="no descriptor is left for them", effect="a restart uses older ones, or the CA")

    def forget_keys(self) -> None:
        """Closes our copy of its memory of keys."""
        if self.keys >= 0:
            os.close(self.keys)
        self.keys = -1

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
            self._loop.remove_reader(self._handover)
            self._handover.close()
        self._channel = self._handover = None
        self._has_spoken = self._has_policy = False
        self.hearing.begin()

    def _end(self, code: int | None) -> None:
        self._receive_keys()
        self._close()
        if not self._is_wanted:
            return
        now = self._loop.time()
        self.exits = remember_exit(self.exits, now)
        next_at = start_at(self.exits, now)
        _log.error("control_exited", code=code, restart_in_s=round(next_at - now, 3))
        self._restart_timer = self._loop.call_at(next_at, self.start)


def _count_unread(sock: socket.socket) -> int:
    """Bytes that the other end has not read (unix(7), TIOCOUTQ)."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


def _receive_memory(handover: socket.socket) -> int:
    """The one thing that control passes: memory that it cannot change any more; -1: there was no descriptor left for it here.

    Raises:
        BlockingIOError: nothing waits.
        EOFError: control has closed its end.
        FrameError: it passed something else.
    """
    try:
        data, descriptors, flags, _ = socket.recv_fds(handover, len(KEYS) + 1, 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        raise
    except OSError:
        data, descriptors, flags = b"", [], 0
    if data == KEYS and len(descriptors) == 1 and is_sealed(descriptors[0]):
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
    for fd in descriptors:
        os.close(fd)
    if not data:
        raise EOFError
    if data == KEYS and not descriptors and flags & socket.MSG_CTRUNC:
        return -1
    raise FrameError("passed something else than keys")


def _capture_in(message: Message) -> Capture:
    """What may be captured, from the one message in which control may say so."""
    if not isinstance(message, CaptureFrame):
        raise FrameError(f"a {type(message).__name__}, which is not control's to send")
    return check_capture(message)
