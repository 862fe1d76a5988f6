"""A mesh of real hosts, installed by the commands of docs/by-hand.md: a catalog, and hosts with nginx and a shop that calls it."""

from tests.hosts.support import page
from tests.hosts.support.host import Host

_CA, _MANAGEMENT = "/var/lib/nodeagent-catalog/tls-ca.pem", "/var/lib/nodeagent-catalog/management.token"


def install_catalog(host: Host) -> None:
    """The embedded catalog runs on `host`, as a unit."""
    _follow(host, "catalog", {"10.0.0.250": host.address})
    host.wait_for(lambda: host.path(_CA).exists(), "the catalog's CA")


def install_agent(host: Host, catalog: Host) -> None:
    """The agent runs on `host`, with nginx as a service and what operators need; nothing is allowed yet."""
    names = {"host1": host.name, "10.0.0.1": host.address, "fd00::1": host.address6, "10.0.0.250": catalog.address}
    _follow(catalog, "token", names)
    token, ca = catalog.path(f"/var/lib/nodeagent-catalog/{host.name}.token").read_text(), catalog.path(_CA).read_text()
    host.put("/root/node.token", token, mode=0o600)
    host.put("/root/catalog-ca.pem", ca)
    _follow(host, "agent", names)
    host.put("/etc/nodeagent/operator.token", catalog.path(_MANAGEMENT).read_text(), mode=0o400)
    _follow(host, "services", names)
    host.put("/etc/systemd/system/shop.service", "[Service]\nType=oneshot\nExecStart=curl -sS -m 20 $URL\n")
    _follow(host, "applications", names)
    host.put("/var/www/html/index.html", f"from {host.name}\n")
    host.run("systemctl enable --quiet --now nginx")
    wait_meshed(host)


def call(caller: Host, callee: Host | str, *, seconds: float = 20, options: str = "") -> str:
    """What the shop on `caller` gets from nginx on `callee`: its answer, or curl's words.

    As a service of its own name, ordered as its drop-in says, and made anew each time.
    """
    address = callee if isinstance(callee, str) else callee.address
    done = caller.run(
        f"curl -sS -m {seconds} {options} http://{address}/", unit="shop", check=False, properties=("Slice=system.slice",)
    )
    return done.stdout + done.stderr


def wait_meshed(host: Host) -> None:
    """Returns when the agent says that it is healthy: the catalog is heard, certificates are there."""
    host.wait_for(lambda: host.run("nodeagent status", check=False).returncode == 0, "a healthy agent")


def processes_of(host: Host, unit: str = "nodeagent.service") -> list[str]:
    """The processes of a unit: the numbers that they have inside."""
    return host.enter("cat", f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs").stdout.split()


def _follow(host: Host, name: str, instead: dict[str, str]) -> None:
    host.put("/root/step.sh", page.block(name, instead))
    host.run("cd /root && sh -eu step.sh")
