"""What a process of the agent that was taken over could do: this program confines itself as that is, and tries. Prints JSON.

Usage: python -m tests.e2e.support.hostile worker|control|free TARGETS, where `free` is root as it was started: what works for
nobody proves nothing. TARGETS: JSON of `token` and `state` (paths), `victim` and `worker` (pids).
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from nodeagent.process.privileges import User, become, limit_resources
from nodeagent.process.spawner import _confine

_libc = ctypes.CDLL(None, use_errno=True)
_CONTROL, _WORKER = User(64901, 64901), User(64902, 64902)
_PARENT = os.getppid()
_PIDFD_OPEN, _IO_URING_SETUP, _BPF, _NOFILE = 434, 425, 321, 7
_AN_ADDRESS = ((ctypes.c_size_t * 2)(4096, 8), 1)  # where nothing is: who may look there is told EFAULT
_ACK = struct.Struct("=IHHIIi")
_targets: dict[str, str] = json.loads(sys.argv[2])


def main() -> None:
    """Tries everything and prints name -> errno name, or "worked"."""
    match sys.argv[1]:
        case "worker":
            _confine(_WORKER)
        case "control":
            limit_resources()
            become(_CONTROL)
    is_alone = sys.argv[1] != "worker"  # a worker cannot fork; whoever can tries in a child, for some attempts change the process
    results = {name: _in_child(attempt) if is_alone else _outcome(attempt) for name, attempt in ATTEMPTS.items()}
    json.dump(results, sys.stdout)


def _in_child(attempt: Callable[[], object]) -> str:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, _outcome(attempt).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said or "worked"  # it has become another program


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except RuntimeError as error:  # what Python makes of a refused thread
        return str(error)
    return "worked"


def _call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def _thread() -> None:
    threading.Thread(target=lambda: None).start()


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _signal_by_descriptor() -> None:
    """The kernel signals whoever owns a descriptor, with any signal that its owner chose."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGCONT)
        fcntl.fcntl(ours, fcntl.F_SETOWN, int(_targets["worker"]))


def _connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(server.getsockname())


def _memfd() -> None:
    fd = os.memfd_create("key")
    os.write(fd, b"secret")
    with open(f"/proc/self/fd/{fd}", "rb") as file:  # noqa: PTH123 - as OpenSSL does
        assert file.read() == b"secret"


def _change_rule() -> None:
    """A table of nftables, as bytes: libnftables ends the process that gets no socket."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        name = struct.pack("=HH8s", 12, 1, b"hostile")
        batch, parts = struct.pack(">BBH", 0, 0, 10), b""
        for kind, flags, body in ((0x10, 1, batch), (10 << 8, 0x405, struct.pack(">BBH", 2, 0, 0) + name), (0x11, 1, batch)):
            parts += struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
        sock.settimeout(10)
        sock.send(parts)
        code = _ACK.unpack_from(sock.recv(8192))[5]
        if code:
            raise OSError(-code, "")


def _read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "fork": _fork,
    "thread": _thread,
    "ptrace": lambda: _call(_libc.ptrace(16, int(_targets["victim"]), None, None)),
    "process_vm_readv": lambda: _call(_libc.process_vm_readv(int(_targets["victim"]), *_AN_ADDRESS, *_AN_ADDRESS, 0)),
    "read_memory": lambda: _read(f"/proc/{_targets['victim']}/mem"),
    "read_environ": lambda: _read(f"/proc/{_targets['victim']}/environ"),
    "read_memory_of_worker": lambda: _read(f"/proc/{_targets['worker']}/mem"),
    "read_token": lambda: _read(_targets["token"]),
    "read_state": lambda: _read(f"{_targets['state']}/secret"),
    "write_state": lambda: _write(f"{_targets['state']}/hostile"),
    "change_rule": _change_rule,
    "change_sysctl": lambda: _write("/proc/sys/net/ipv4/tcp_fwmark_accept"),
    "mount": lambda: _call(_libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
    "unshare": lambda: _call(_libc.unshare(0x10000000)),
    "setuid": lambda: os.setuid(0),
    "chroot": lambda: os.chroot("/"),
    "kill": lambda: os.kill(_PARENT, 0),
    "kill_worker": lambda: os.kill(int(_targets["worker"]), 0),
    "signal_by_descriptor": _signal_by_descriptor,
    "pidfd_open": lambda: _call(_libc.syscall(_PIDFD_OPEN, _PARENT, 0)),
    "prctl": lambda: _call(_libc.prctl(4, 1, 0, 0, 0)),
    "io_uring": lambda: _call(_libc.syscall(_IO_URING_SETUP, 1, None)),
    "bpf": lambda: _call(_libc.syscall(_BPF, 0, None, 0)),
    "packet_socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "raw_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6),
    "udp_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX),
    "netlink_socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "write_file": lambda: _write("/run/nodeagent/hostile"),
    "append_file": lambda: os.open("/proc/self/comm", os.O_RDWR),
    "mkdir": lambda: os.mkdir(f"/run/nodeagent/hostile-{os.getpid()}"),  # noqa: PTH102
    "unlink": lambda: os.unlink("/run/nodeagent/victim"),  # noqa: PTH108
    "set_mark": lambda: socket.socket().setsockopt(socket.SOL_SOCKET, 36, 0x5B),
    "low_port": lambda: socket.socket().bind(("127.0.0.1", 80)),
    "set_limit": lambda: _call(_libc.prlimit(0, _NOFILE, (ctypes.c_ulong * 2)(64, 64), None)),
    "tcp": _connect,
    "read_file": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "memfd": _memfd,
    "late_import": lambda: __import__("wsgiref.headers"),
}


if __name__ == "__main__":
    main()
