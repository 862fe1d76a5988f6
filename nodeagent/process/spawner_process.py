"""The supervisor's side of the spawner: starts it, orders workers from it, starts it again when it ends."""

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from nodeagent import limits
from nodeagent.consul_environ import without_token
from nodeagent.errors import FrameError
from nodeagent.observe.log import open_log
from nodeagent.process.child import START_ERRORS, Process, closing_memory, start_program, watch_program
from nodeagent.process.orders import Exited, Spawn, Spawned, SpawnerSetup, encode_setup, receive_order, send_order
from nodeagent.process.restart import remember_exit, start_at

_log = open_log()


class SpawnerProcess:
    """A spawner that is started again whenever it ends. Owned by the fleet."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, setup: SpawnerSetup, environ: Mapping[str, str],
        on_spawned: Callable[[Spawned, int], None], on_exited: Callable[[int, int], None], on_lost: Callable[[], None],
    ) -> None:  # fmt: skip
        """`on_spawned` gets the report and the pidfd; `on_exited` pid and code; `on_lost`: orders are lost, a new one runs."""
        self._loop = loop
        self._setup = setup
        self._environ = {**without_token(environ), "UV_USE_IO_URING": "0"}  # no such call in a worker's filter: do not even try
        self._on_spawned = on_spawned
        self._on_exited = on_exited
        self._on_lost = on_lost
        self.exits: tuple[float, ...] = ()
        """When it ended, as far as that can matter."""
        self._process: Process | None = None
        self._orders: socket.socket | None = None
        self._is_wanted = True
        self._restart_timer: asyncio.TimerHandle | None = None
        self._unanswered: dict[int, asyncio.TimerHandle] = {}
        """By the serials of orders: what ends it, should it not have reported then."""
        self._patience_s = limits.START_S
        """How long an order may wait: each that is ended for it doubles what the next one gets, as the host may be too slow."""

    @property
    def pid(self) -> int:
        """0: it does not run."""
        return self._process.pid if self._process and not self._process.ended.is_set() else 0

    @property
    def is_running(self) -> bool:
        """Whether an order can be given."""
        return self._orders is not None

    def start(self) -> None:
        """Starts the program, unless it runs; orders may be given at once, they wait until it has imported everything.

        One that cannot be started now is tried again as one that ended.
        """
        if not self._is_wanted or self.pid:
            return
        try:
            self._launch()
        except START_ERRORS as error:
            _log.error("spawner_not_started", error=str(error))
            self._end(None)

    def _launch(self) -> None:
        """Raises one of START_ERRORS; nothing is left open then."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, closing_memory("nodeagent-setup", encode_setup(self._setup)) as memory:
                fds = (theirs.fileno(), memory)
                pid = start_program("nodeagent.process.spawner", [*map(str, fds)], fds, self._environ)
            self._process = watch_program(self._loop, pid, lambda code: self._note_end(pid, code))
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._orders = ours
        self._loop.add_reader(ours, self._receive)

    def order(self, spawn: Spawn, descriptors: Sequence[int]) -> bool:
        """Whether the order was given."""
        if self._orders is None:
            return False
        try:
            send_order(self._orders, spawn, descriptors)
        except OSError as error:
            _log.warning("spawn_failed", worker=spawn.number, error=str(error))
            return False
        self._unanswered[spawn.serial] = self._loop.call_later(self._patience_s, self._give_up)
        return True

    def _give_up(self) -> None:
        """Whoever waits for workers would wait for ever. Those that live go on without it."""
        _log.error("spawner_hung", pid=self.pid, why=f"it has left an order unanswered for {self._patience_s:g} s")
        self._patience_s = min(2 * self._patience_s, limits.SPAWN_MAX_S)
        self._kill()

    def _kill(self) -> None:
        """Nothing is lost with it, and SIGTERM does not end one that is stopped. Its end, which follows, starts another."""
        if self._process:
            self._process.signal(signal.SIGKILL)
            self._loop.call_later(limits.KILLED_S, self._leave, self._process)
        self._close()

    def _leave(self, process: Process) -> None:
        """It runs no line of ours any more, and another may be started beside it."""
        if process is self._process and not process.ended.is_set():
            _log.error("process_left", program="spawner", pid=process.pid, why="SIGKILL does not end it: the kernel holds it",
                       effect="another is started")  # fmt: skip
            self._process = None
            self._end(None)

    def revive(self) -> None:
        """Starts it again after a stop."""
        self._is_wanted = True
        self.start()

    async def stop(self) -> None:
        """Ends the spawner; workers that still live go on without it."""
        self._is_wanted = False
        if self._restart_timer:
            self._restart_timer.cancel()
        self._close()
        if process := self._process:
            await process.end("spawner")
            if not process.ended.is_set():
                self._process = None  # the kernel holds it; should this be revived, another is started beside it

    def _receive(self) -> None:
        assert self._orders is not None
        try:
            while (received := receive_order(self._orders)) is not None:
                match received.order:
                    case Spawned(serial=serial):
                        if timer := self._unanswered.pop(serial, None):
                            timer.cancel()
                        self._patience_s = limits.START_S
                        self._on_spawned(received.order, received.descriptors[0])
                    case Exited(pid=pid, code=code):
                        self._on_exited(pid, code)
        except BlockingIOError:
            return
        except (FrameError, OSError) as error:
            _log.error("spawner_confused", error=str(error))
        self._kill()  # it closed its end, or cannot be understood

    def _close(self) -> None:
        for timer in self._unanswered.values():
            timer.cancel()
        self._unanswered.clear()
        if self._orders is not None:
            self._loop.remove_reader(self._orders)
            self._orders.close()
            self._orders = None

    def _note_end(self, pid: int, code: int | None) -> None:
        if self._process and self._process.pid == pid:
            self._end(code)

    def _end(self, code: int | None) -> None:
        self._close()
        if not self._is_wanted:
            return
        now = self._loop.time()
        self.exits = remember_exit(self.exits, now)
        next_at = start_at(self.exits, now)
        _log.error("spawner_exited", code=code, restart_in_s=round(next_at - now, 3))
        self._restart_timer = self._loop.call_at(next_at, self._restart)

    def _restart(self) -> None:
        self.start()
        if self.is_running:
            self._on_lost()
