"""The spawner: a program without threads that has imported all that a worker needs, and forks one on each order.

It is its own program because a fork copies whatever the parent holds: here that is modules (shared memory, so that ten
workers cost little more than one) and nothing else, no netlink socket, no rule, no other worker's channel.

Usage: python -m nodeagent.process.spawner ORDERS_FD SETUP_FD
"""

import gc
import os
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn, cast

from nodeagent.observe.unblocked import unblock_stderr
from nodeagent.process import privileges, seccomp
from nodeagent.process.orders import (
    Exited,
    Received,
    Spawn,
    Spawned,
    SpawnerSetup,
    decode_setup,
    receive_order,
    send_order,
)  # fmt: skip
from nodeagent.process.worker import WorkerSetup, run_worker

_EXIT_DEFECT = 70  # EX_SOFTWARE


def main(arguments: list[str]) -> None:
    """Serves orders until the supervisor's end is closed. Workers live on without a spawner."""
    orders = socket.socket(fileno=int(arguments[0]))
    with os.fdopen(int(arguments[1]), "rb") as file:
        setup = decode_setup(file.read())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ctrl-C is the supervisor's business
    privileges.name_process("nodeagent-spawn")
    unblock_stderr("spawner")
    privileges.keep_only(privileges.SPAWNER)
    # What exists now is never looked at by a collector again: its pages stay shared between all workers.
    gc.collect()
    gc.freeze()
    Spawner(orders, setup).serve()


class Spawner:
    """Children by pidfd. Owned by the spawner program."""

    def __init__(self, orders: socket.socket, setup: SpawnerSetup) -> None:
        self._orders = orders
        self._setup = setup
        self._children: dict[int, int] = {}
        """pidfd -> pid."""

    def serve(self) -> None:
        """Forks and reaps until the supervisor is gone."""
        poller = select.poll()
        poller.register(self._orders, select.POLLIN)
        while True:
            for fd, _ in poller.poll():
                if fd != self._orders.fileno():
                    poller.unregister(fd)
                    self._reap(fd)
                elif (received := receive_order(self._orders)) is None:
                    return
                else:
                    poller.register(self._spawn(received), select.POLLIN)

    def _spawn(self, received: Received) -> int:
        """The pidfd of a new worker, which the supervisor has been told."""
        spawn = cast("Spawn", received.order)
        pid = os.fork()
        if pid == 0:
            self._become_worker(spawn, received.descriptors)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        for fd in received.descriptors:
            os.close(fd)
        self._tell(Spawned(spawn.serial, spawn.number, pid), (pidfd,))
        return pidfd

    def _reap(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        self._tell(Exited(pid, os.waitstatus_to_exitcode(status)))

    def _tell(self, order: Spawned | Exited, descriptors: tuple[int, ...] = ()) -> None:
        """A supervisor that is gone is noticed where orders are read."""
        try:
            send_order(self._orders, order, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _become_worker(self, spawn: Spawn, descriptors: tuple[int, ...]) -> NoReturn:
        """The child's whole life. It leaves by _exit: nothing of the spawner's may be flushed or run twice."""
        code = _EXIT_DEFECT
        try:
            self._orders.close()
            for pidfd in self._children:
                os.close(pidfd)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            privileges.name_process(f"nodeagent-w{spawn.number}")
            unblock_stderr(f"worker-{spawn.number}")
            _confine(privileges.User(self._setup.uid, self._setup.gid))
            run_worker(_worker_setup(spawn, descriptors, self._setup))
            code = 0
        except SystemExit as exit_:
            code = _exit_code(exit_)
        except BaseException:  # noqa: BLE001 - the top of a process: whatever it was, it is printed and the process ends
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _confine(user: privileges.User) -> None:
    """No capability, no way to get one, no look from outside, and only the calls that a worker needs."""
    privileges.limit_resources()
    privileges.become(user)
    privileges.forbid_inspection()
    seccomp.install_filter(os.getpid())


def _worker_setup(spawn: Spawn, descriptors: tuple[int, ...], setup: SpawnerSetup) -> WorkerSetup:
    """The descriptors by their meaning: the channels to the supervisor and to control."""
    supervisor, control = (socket.socket(fileno=fd) for fd in descriptors)
    for sock in (supervisor, control):
        sock.setblocking(False)
    return WorkerSetup(f"{setup.start}{spawn.serial}", setup.config, supervisor, control)


def _exit_code(exit_: SystemExit) -> int:
    """As the interpreter would: a number is the code, a text is printed and means failure."""
    if exit_.code is None or isinstance(exit_.code, int):
        return exit_.code or 0
    print(exit_.code, file=sys.stderr)  # noqa: T201 - as the interpreter does for SystemExit with a text
    return 1


if __name__ == "__main__":
    main(sys.argv[1:])
