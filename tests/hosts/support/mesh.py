"""A mesh of real hosts, installed by the commands of docs/by-hand.md: a catalog, and hosts with nginx and a shop that calls it."""

from tests.hosts.support import page
from tests.hosts.support.host import Host

_CA, _MANAGEMENT = "/var/lib/nodeagent-catalog/tls-ca.pem", "/var/lib/nodeagent-catalog/management.token"
_SHOP = """
[Service]
Type=oneshot
EnvironmentFile=/etc/shop.env
ExecStart=sh -c ${COMMAND}
StandardOutput=truncate:/run/shop.out
StandardError=inherit
[Install]
WantedBy=multi-user.target
"""


def install_catalog(host: Host) -> None:
    """The embedded catalog runs on `host`, as a unit."""
    follow(host, "catalog", {"10.0.0.250": host.address})
    host.wait_for(lambda: host.path(_CA).exists(), "the catalog's CA")


def enrol(host: Host, catalog: Host) -> None:
    """The agent runs on `host`, with nginx registered as a service."""
    names = {"host1": host.name, "10.0.0.1": host.address, "fd00::1": host.address6, "10.0.0.250": catalog.address}
    follow(catalog, "token", names)
    host.put("/root/node.token", catalog.path(f"/var/lib/nodeagent-catalog/{host.name}.token").read_text(), mode=0o600)
    host.put("/root/catalog-ca.pem", catalog.path(_CA).read_text())
    follow(host, "agent", names)
    follow(host, "services", names)


def install_agent(host: Host, catalog: Host) -> None:
    """As `enrol`, with a shop, an nginx that serves, and what operators need; nothing is allowed yet."""
    enrol(host, catalog)
    host.put("/etc/nodeagent/operator.token", catalog.path(_MANAGEMENT).read_text(), mode=0o400)
    host.put("/etc/systemd/system/shop.service", _SHOP)
    follow(host, "applications", {})
    host.put("/var/www/html/index.html", f"from {host.name}\n")
    host.run("systemctl enable --quiet --now nginx")
    wait_meshed(host)


def call(caller: Host, callee: Host | str, *, seconds: float = 20) -> str:
    """What the unit shop on `caller` gets from nginx on `callee` (a host or HOST:PORT): its answer, or curl's words."""
    address = callee if isinstance(callee, str) else callee.address
    start_shop(caller, f"exec curl -sS -m {seconds} http://{address}/")
    return shop_said(caller)


def start_shop(host: Host, command: str, *, is_awaited: bool = True) -> None:
    """The unit shop runs a shell's command, to its end if it is awaited; no single quote may be in it."""
    host.path("/etc/shop.env").write_text(f"COMMAND='{command}'\n")
    host.enter("systemctl", "start", "shop", *([] if is_awaited else ["--no-block"]))


def shop_said(host: Host) -> str:
    """What the shop's last command has written so far."""
    return host.path("/run/shop.out").read_text()


def wait_meshed(host: Host) -> None:
    """Returns when the agent says that it is healthy: the catalog is heard, certificates are there."""
    host.wait_for(lambda: host.run("nodeagent status", check=False).returncode == 0, "a healthy agent")


def processes_of(host: Host, unit: str = "nodeagent.service") -> list[str]:
    """The processes of a unit: the numbers that they have inside."""
    return host.enter("cat", f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs").stdout.split()


def follow(host: Host, name: str, instead: dict[str, str]) -> None:
    """Runs the page's block `name` on the host, in root's directory."""
    host.put("/root/step.sh", page.block(name, instead))
    done = host.run("cd /root && sh -eu step.sh", check=False)
    journal = host.enter("journalctl", "--no-pager", "--lines=60").stdout if done.returncode else ""
    assert not journal, f"{host.name}: {name}: {done.stderr}\n{journal}"


class Mesh:
    """A catalog and two hosts, one of each release, each with nginx and a shop."""

    def __init__(self, catalog: Host, hosts: tuple[Host, ...]) -> None:
        self.catalog, self.hosts = catalog, hosts
        install_catalog(catalog)
        for host in hosts:
            install_agent(host, catalog)

    def other(self, host: Host) -> Host:
        """The one that `host` calls."""
        return next(other for other in self.hosts if other is not host)

    def allow(self) -> None:
        """The shop may call nginx, in force on both hosts."""
        self._say("allow", "from ")

    def forbid(self) -> None:
        """Nobody may call nginx, in force on both hosts."""
        self._say("delete", "curl: ")

    def heal(self) -> None:
        """Everything runs, whatever the test before has left."""
        self.catalog.enter("systemctl", "start", "nodeagent-catalog")
        for host in self.hosts:
            host.enter("systemctl", "stop", "shop")
            host.enter("systemctl", "reset-failed", "nodeagent")
            host.enter("systemctl", "start", "nodeagent", "nginx")
            wait_meshed(host)

    def _say(self, verb: str, answer: str) -> None:
        self.hosts[0].run("nodeagent", "intention", verb, "shop", "nginx", check=False)
        for host in self.hosts:
            host.wait_for(lambda host=host: call(host, self.other(host)).startswith(answer), f"{verb} in force")
