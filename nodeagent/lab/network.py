"""The lab's network: shell scripts that make bridge, links and addresses, and who listens where."""

from collections.abc import Collection

from nodeagent.lab.layout import Host
from nodeagent.model.address import canonical_ip

BRIDGE = "br0"
LINK = "eth0"

# Duplicate detection would keep new IPv6 addresses unusable for a second; router advertisements have no sender here.
_QUIET_IPV6 = """\
for scope in all default; do
  cd "/proc/sys/net/ipv6/conf/$scope" || { echo "this kernel has IPv6 switched off" >&2; exit 1; }
  echo 0 >disable_ipv6; echo 0 >accept_dad; echo 0 >dad_transmits; echo 0 >accept_ra
done
cd /
"""


def hub_script(hub: Host) -> str:
    """What makes the bridge; runs in the hub's network namespace."""
    return (
        f"set -e\n{_QUIET_IPV6}"
        "ip link set lo up\n"
        f"ip link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n"
        f"{_addresses(hub, BRIDGE)}"
        f"ip link set {BRIDGE} up\n"
    )


def link_script(host: Host, holder_pid: int) -> str:
    """What connects a host to the bridge; runs in the hub's network namespace."""
    return (
        f"set -e\nip link add {host.name} type veth peer name {LINK} netns {holder_pid}\n"
        f"ip link set {host.name} master {BRIDGE}\nip link set {host.name} up\n"
    )


def host_script(host: Host) -> str:
    """What brings a host's own end up; runs in the host's network namespace, before and after no one else."""
    return f"set -e\n{_QUIET_IPV6}ip link set lo up\n{_addresses(host, LINK)}ip link set {LINK} up\n"


def listening_ports(table: str) -> frozenset[int]:
    """The TCP ports that somebody listens on, whatever the address.

    table: the text of /proc/PID/net/tcp or tcp6.
    """
    rows = (line.split() for line in table.splitlines()[1:])
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A")


def listening_addresses(told: str) -> frozenset[str]:
    """The addresses that are listened on: IP addresses, `0.0.0.0`, `::` (IPv6 alone), or `*` for both families.

    told: what `ss -Hltn` printed.
    """
    cells = (line.split()[3].rpartition(":")[0].partition("%")[0].strip("[]") for line in told.splitlines())
    return frozenset(cell if cell == "*" else canonical_ip(cell) for cell in cells)


def answering(host: Host, listened: Collection[str]) -> tuple[str, ...]:
    """Which of the host's addresses somebody who listens on `listened` answers at."""
    wildcards = {host.ipv4: "0.0.0.0", host.ipv6: "::"}  # noqa: S104 - compared with, not bound
    return tuple(ip for ip, wildcard in wildcards.items() if not {ip, wildcard, "*"}.isdisjoint(listened))


def _addresses(host: Host, device: str) -> str:
    return f"ip address add {host.ipv4}/24 dev {device}\nip -6 address add {host.ipv6}/64 dev {device} nodad\n"
