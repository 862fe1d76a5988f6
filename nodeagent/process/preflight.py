"""What must be true before anything is started: each failure is one sentence with its cure."""

import grp
import os
import platform
import socket
from pathlib import Path

from nodeagent.config import Config
from nodeagent.errors import ConfigError
from nodeagent.process import privileges, sock_diag
from nodeagent.process.cgroups import find_cgroup2_mount
from nodeagent.process.conntrack import find_original
from nodeagent.process.listeners import make_prepared_socket
from nodeagent.process.netlink import NetlinkError, NetlinkSocket
from redirect.ctnetlink import NETFILTER
from redirect.flow import Flow

_FWMARK_ACCEPT = Path("/proc/sys/net/ipv4/tcp_fwmark_accept")
_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def check_is_root() -> None:
    """Raises ConfigError unless this process is root with the capabilities that it needs."""
    if os.geteuid() != 0:
        raise ConfigError("nodeagent run must be started as root: it gives up what it does not need by itself")
    missing = privileges.missing_capabilities(privileges.SUPERVISOR)
    if missing:
        raise ConfigError(f"capabilities are missing: {'; '.join(missing)}; see CapabilityBoundingSet= of the unit")


def check_users(control: privileges.User, worker: privileges.User) -> None:
    """Raises ConfigError where control and workers could read each other's memory."""
    if control.uid == worker.uid:
        raise ConfigError(f"host.control_user and host.worker_user are the same uid {control.uid}; give two users")


def check_group(name: str | int, key: str) -> None:
    """Raises ConfigError where a group that the configuration names at `key` is none: nobody would notice before it is needed."""
    try:
        if isinstance(name, str) and name:
            grp.getgrnam(name)
    except KeyError:
        raise ConfigError(f"{key}: there is no group {name!r}; make it (groupadd --system {name}) or name another") from None


def check_cgroup_root(root: str) -> None:
    """Raises ConfigError where units are looked for in a cgroup that is none."""
    mount = find_cgroup2_mount(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if not (mount / root.strip("/")).is_dir():
        raise ConfigError(f"intercept.cgroup_root: {root!r} is not below {mount}; take the setting out: it is for labs")


def check_kernel(config: Config) -> None:
    """Raises ConfigError when the kernel lacks what interception or identity stand on."""
    if not config.intercept.enabled:
        return
    if not _FWMARK_ACCEPT.exists():
        raise ConfigError(f"{_FWMARK_ACCEPT} does not exist: {_too_old()}")
    try:
        make_prepared_socket(4).close()
    except OSError as error:
        cure = "it takes root, with CAP_NET_ADMIN" if isinstance(error, PermissionError) else _too_old()
        raise ConfigError(f"a transparent socket cannot be made: {error}; {cure}") from error
    _check_conntrack()
    _check_sock_diag()


def backlog_limit() -> int:
    """What the kernel cuts listening queues down to."""
    return int(_SOMAXCONN.read_text(encoding="ascii"))


def _check_conntrack() -> None:
    """A question about a connection that cannot exist is answered with "not found" by a working conntrack."""
    nobody = Flow(b"\x7f\0\0\1", 1, b"\x7f\0\0\1", 1)
    netlink = NetlinkSocket(NETFILTER)
    try:
        find_original(netlink, nobody)
    except NetlinkError as error:
        raise ConfigError(f"conntrack cannot be asked: {error}; modprobe nf_conntrack_netlink") from error
    finally:
        netlink.close()


def _check_sock_diag() -> None:
    """A connection of our own must be found, with our inode and a cgroup."""
    netlink = NetlinkSocket(sock_diag.NETLINK_SOCK_DIAG)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            row = sock_diag.find_row(netlink, _flow_of(client))
            inode = os.fstat(client.fileno()).st_ino
    except NetlinkError as error:
        raise ConfigError(f"sock_diag cannot be asked: {error}; modprobe tcp_diag") from error
    except OSError as error:
        raise ConfigError(f"127.0.0.1 cannot be reached: {error}; ip link set lo up") from error
    finally:
        netlink.close()
    if row is None or row.inode != inode:
        raise ConfigError("sock_diag does not find a connection of our own; modprobe tcp_diag inet_diag")
    if not row.cgroup_id:
        raise ConfigError(f"sock_diag names no cgroups: {_too_old()}")


def _flow_of(client: socket.socket) -> Flow:
    (src, sport), (dst, dport) = client.getsockname(), client.getpeername()
    return Flow(socket.inet_aton(src), sport, socket.inet_aton(dst), dport)


def _too_old() -> str:
    return f"this kernel ({platform.release()}) is too old, 5.10 or newer is needed"
