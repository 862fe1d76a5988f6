"""Two hosts as network namespaces, with cgroups, workloads and a stand-in for the agent: what tests of `redirect` share."""

import ctypes
import itertools
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from redirect import kernel
from redirect.backend import AnyElements, open_elements
from redirect.cgroup import read_mount
from redirect.elements import Exceptions
from redirect.rtnetlink import use_ipset
from redirect.settings import Backend, Settings

AGENT_UID, WORKER_UID, SHOP_UID = 64901, 64902, 64903
TABLES = ("mangle", "filter", "nat")
WEB, SHOP, SSH, OTHER = 8080, 8081, 22, 9999
DEADLINE_S = 20.0
SO_MARK, IP_TRANSPARENT, IPV6_TRANSPARENT, SO_ORIGINAL_DST = 36, 19, 75, 80
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)
Result = TypeVar("Result")
Address = tuple[str, int]


class Accepted(NamedTuple):
    """What a listener learned of one connection."""

    destination: Address
    """Where the client wanted to go: SO_ORIGINAL_DST or getsockname()."""
    peer: Address
    mark: int


class Listener:
    """Accepts in a thread and answers every piece of data with its name before it; so a test sees who answered."""

    def __init__(self, name: str, sock: socket.socket, *, redirected: bool) -> None:
        self.accepted: queue.Queue[Accepted] = queue.Queue()
        self._name, self._sock, self._redirected = name, sock, redirected
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Stops, closes everything and waits for the threads."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        for thread in self._threads:
            thread.join()
        for sock in (self._sock, *self._open):
            sock.close()

    def hang_up(self) -> None:
        """Closes what it has accepted, and goes on."""
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._sock.accept()
            except OSError:
                return
            self._open.append(connection)
            destination = original_dst(connection) if self._redirected else connection.getsockname()[:2]
            mark = connection.getsockopt(socket.SOL_SOCKET, SO_MARK)
            self.accepted.put(Accepted(destination, peer[:2], mark))
            self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := connection.recv(65536):
                connection.sendall(self._name.encode() + b":" + data)


def original_dst(connection: socket.socket) -> Address:
    """The destination before redirection."""
    if connection.family == socket.AF_INET:
        raw = connection.getsockopt(socket.IPPROTO_IP, SO_ORIGINAL_DST, 16)
        return socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack_from(">H", raw, 2)[0]
    raw = connection.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28)
    return socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from(">H", raw, 2)[0]


@dataclass
class Host:
    """One network namespace with its cgroup subtree. What is made in it is made by threads that live there."""

    name: str
    ip4: str
    ip6: str
    cgroup: str
    stack: ExitStack
    backend: Backend = "nft"
    threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.threads = ThreadPoolExecutor(2, initializer=_enter, initargs=(self.name,))

    def run(self, act: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """`act` with the network of this host."""
        return self.threads.submit(act, *args, **options).result()

    def shell(self, *command: str) -> str:
        """The output of a command with the network of this host."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def command(self, *command: str) -> list[str]:
        """An argument list that runs a command with the network of this host. Not `ip netns exec`: it remounts /sys."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def listen(
        self, name: str, address: str, port: int, *, transparent: bool = False, redirected: bool = False
    ) -> Listener:
        """A listener that is closed with the host."""

        def make() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transparent and family == socket.AF_INET:
                sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
            if transparent and family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
            sock.bind(_place(address, port))
            sock.listen(1024)
            return sock

        listener = Listener(name, self.run(make), redirected=redirected)
        self.stack.callback(listener.close)
        return listener

    def connect(self, address: str, port: int, *, family: int = 0) -> socket.socket:
        """A connection from this host, closed with it; the caller is root in no cgroup of ours.

        Raises:
            ConnectionRefusedError: it was reset at once.
        """

        def make() -> socket.socket:
            sock = socket.socket(family or (socket.AF_INET6 if ":" in address else socket.AF_INET))
            sock.settimeout(DEADLINE_S)
            self.stack.callback(sock.close)
            sock.connect(_place(address, port))
            return sock

        return self.run(make)

    def path_of(self, unit: str) -> str:
        """The cgroup of a unit, below the cgroup v2 mount."""
        return f"{self.cgroup}/{unit}"


@dataclass
class Agent:
    """The stand-in: listens where an agent would, and owns the elements."""

    outbound: dict[int, Listener]
    inbound: dict[int, Listener]
    elements: AnyElements

    def learned(self, version: int) -> Accepted:
        """What the agent learned of the redirected connection that came last; earlier ones are forgotten."""
        accepted = self.outbound[version].accepted
        seen = accepted.get(timeout=DEADLINE_S)
        while not accepted.empty():
            seen = accepted.get()
        return seen


def ask(connection: socket.socket, text: str = "hello") -> str:
    """What the other end answers."""
    connection.sendall(text.encode())
    return connection.recv(65536).decode()


def settings_for(host: Host, **options: Any) -> Settings:
    """Settings for the rules of this host."""
    return Settings(agent_uids=(AGENT_UID, WORKER_UID), cgroup_root=host.cgroup, backend=host.backend, **options)


def record_path(host: Host) -> Path:
    """Where apply on this host keeps its record."""
    return Path("/run", f"{host.name}.json")


def apply(host: Host, **options: Any) -> kernel.Report:
    """Installs the rules."""
    return host.run(kernel.apply, settings_for(host, **options), record_path=record_path(host))


def remove(host: Host, *, now: bool = False, is_agent_idle: bool = False) -> kernel.Report:
    """Removes the rules."""
    return host.run(kernel.remove, now=now, is_agent_idle=is_agent_idle, record_path=record_path(host))


def start_agent(host: Host, *, inbound: bool = True, **options: Any) -> Agent:
    """Listeners on loopback and open elements, for the settings of `options`; no rule, no beat yet."""
    outbound = {
        4: host.listen("agent", "127.0.0.1", 15001, redirected=True),
        6: host.listen("agent", "::1", 15001, redirected=True),
    }
    accepting = {}
    if inbound:
        accepting = {
            4: host.listen("agent", "127.0.0.1", 15006, transparent=True),
            6: host.listen("agent", "::1", 15006, transparent=True),
        }
    elements = host.run(open_elements, settings_for(host, **options))
    host.stack.callback(elements.close)
    return Agent(outbound, accepting, elements)


def capture(host: Host, agent: Agent, peer: Host, exceptions: Exceptions | None = None, ports: tuple[int, ...] = (WEB,)) -> None:
    """The peer's addresses and our web port are in the mesh, and the agent beats."""
    host.run(agent.elements.set_capture, [peer.ip4, peer.ip6], ports, (), exceptions)
    host.run(agent.elements.set_agents, [host.path_of("nodeagent.service")])
    host.run(agent.elements.beat)


@contextmanager
def two_hosts(backend: Backend = "nft") -> Iterator[tuple[Host, Host]]:
    """Two hosts on one link: 10.78.0.1 and .2, fd78::1 and ::2. All of it is gone afterwards."""
    mount = Path(read_mount())
    with ExitStack() as stack:
        base = f"nodeagent-redirect-{os.getpid()}-{next(_numbers)}"
        stack.callback(_remove_cgroups, mount / base)
        hosts = []
        for index in (1, 2):
            name = f"{base}-{index}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            stack.callback(Path("/run", f"{name}.json").unlink, missing_ok=True)
            for unit in ("nodeagent.service", "system.slice/web.service", "system.slice/shop.service"):
                (mount / base / f"host{index}" / unit).mkdir(parents=True)
            host = Host(name, f"10.78.0.{index}", f"fd78::{index}", f"{base}/host{index}", stack, backend)
            stack.callback(host.threads.shutdown)
            hosts.append(host)
        _ip("-n", hosts[0].name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", hosts[1].name)
        for host in hosts:
            _ip("-n", host.name, "link", "set", "eth0", "addrgenmode", "none")  # no link-local address that comes later
            _ip("-n", host.name, "addr", "add", f"{host.ip4}/24", "dev", "eth0")
            _ip("-n", host.name, "addr", "add", f"{host.ip6}/64", "dev", "eth0", "nodad")
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield hosts[0], hosts[1]


@dataclass(frozen=True)
class Workload:
    """A process as an application would be: its own user and cgroup, and no more rights than it is given."""

    host: Host
    unit: str = ""
    """Cgroup below the host's; empty: none of ours."""
    uid: int = SHOP_UID
    net_raw: bool = False
    mark: int = 0

    source: Address = ("", 0)
    """Where to call from; an address that is not this host's needs root."""

    def ask(self, address: str, port: int) -> str:
        """What the other end answered, or `refused`."""
        with self.holding(address, port) as answer:
            return answer

    @contextmanager
    def holding(self, address: str, port: int) -> Iterator[str]:
        """What the other end answered; the connection stays open inside the block."""
        rights = ["--inh-caps=+net_raw", "--ambient-caps=+net_raw"] if self.net_raw else []
        user = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *rights]
        numbers = [str(self.mark), *map(str, self.source), address, str(port)]
        client = [str(Path(sys.executable).resolve()), "-IS", "-c", _CLIENT, *numbers]
        cgroup = str(Path(read_mount(), self.host.path_of(self.unit), "cgroup.procs")) if self.unit else "/dev/null"
        command = self.host.command("sh", "-c", _ENTER, "sh", cgroup, *user, *client)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            try:
                yield process.stdout.readline().strip()
            finally:
                process.stdin.close()
        assert process.returncode == 0


# The socket is made in the cgroup: that is when the kernel notes it.
_ENTER = 'echo $$ > "$1" && shift && exec "$@"'
_CLIENT = """
import socket, sys
mark, source, source_port, host, port = sys.argv[1:]
sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
sock.settimeout(5)
if int(mark):
    sock.setsockopt(socket.SOL_SOCKET, 36, int(mark))
try:
    if source:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if int(mark):
            sock.setsockopt(*((41, 75) if ":" in host else (0, 19)), 1)
        sock.bind((source, int(source_port)))
    sock.connect(socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][4])
    sock.sendall(b"hello")
    print(sock.recv(65536).decode(), flush=True)
    sys.stdin.read()
except OSError as error:
    print("refused" if isinstance(error, ConnectionRefusedError) else "unreachable", flush=True)
"""


def _place(address: str, port: int) -> Any:
    """As sockets take it, with the scope of a link-local address in the network namespace of the caller."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4]


def state_of(host: Host) -> dict[str, str]:
    """All that apply could change in a host's kernel."""
    return {
        "rules": host.shell("nft", "-s", "list", "ruleset"),
        "iptables": legacy_rules(host) if host.backend == "iptables" else "",
        "ipsets": str(host.run(_ipsets)),
        "policy": host.shell("ip", "rule") + host.shell("ip", "-6", "rule"),
        "routes": host.shell("ip", "route", "show", "table", "all")
        + host.shell("ip", "-6", "route", "show", "table", "all"),
        "sysctls": host.shell(
            "sysctl", "-a", "--pattern", "^net.(ipv4.tcp_fwmark_accept|ipv4.tcp_tw_reuse|ipv[46].fwmark_reflect|ipv4.ip_forward|ipv4.conf|ipv6.conf)"
        ),
    }


def legacy_rules(host: Host) -> str:
    """The tables of iptables; to look at one is to make it, and none is ever taken away."""
    programs = ("iptables-legacy", "ip6tables-legacy")
    return "".join(host.shell(program, "-t", table, "-S") for program in programs for table in TABLES)


def _ipsets() -> list[str]:
    """The names of all sets of ipset; pyroute2's sockets cannot be used in a thread that has a loop."""
    return use_ipset(lambda ipset: [answer.get_attr("IPSET_ATTR_SETNAME") for answer in ipset.list()])


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _enter(name: str) -> None:
    """Moves the calling thread into a network namespace."""
    with Path("/run/netns", name).open("rb") as namespace:
        if _libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")


def _remove_cgroups(base: Path) -> None:
    """Removes a subtree whose processes have ended, from the leaves up."""
    for directory in sorted((path for path in base.rglob("*") if path.is_dir()), reverse=True):
        directory.rmdir()
    base.rmdir()
