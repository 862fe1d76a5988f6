"""docs/by-hand.md, to its end: a host from which nodeagent was taken is as one that never had it."""

from difflib import unified_diff

from tests.hosts.support.host import Host
from tests.hosts.support.hosts import Hosts
from tests.hosts.support.mesh import Mesh, enrol, follow, install_catalog, wait_meshed

STATE = """
nft list ruleset; ip rule; ip -6 rule; ip route show table all type local table 133; pgrep -l '^nodeagent'
sysctl net.ipv4.tcp_fwmark_accept net.ipv4.fwmark_reflect net.ipv6.fwmark_reflect net.ipv4.tcp_tw_reuse
cut -d: -f1 /etc/passwd /etc/group | sort; systemctl list-unit-files --no-legend | awk '{ print $1 }' | sort
find / -xdev -path /root -prune -o -path /proc -prune -o -name '*nodeagent*' -print; ls -A /opt
"""
NODES = (
    "curl -sS --fail --cacert /var/lib/nodeagent-catalog/tls-ca.pem https://{}:8501/v1/catalog/nodes"
    ' --header "X-Consul-Token: $(cat /var/lib/nodeagent-catalog/management.token)"'
)


def test_taking_it_out_leaves_nothing(hosts: Hosts, mesh: Mesh) -> None:
    """Rules, routes, settings, processes, users, units and files are those of a host without it."""
    with hosts.up("never", "trixie") as never, hosts.up("leaver", "trixie", product=True) as leaver:
        enrol(leaver, mesh.catalog)
        wait_meshed(leaver)
        follow(leaver, "remove", {})
        before, after = _state(never), _state(leaver)
        assert [*unified_diff(before, after, lineterm="", n=0)] == []
        assert len(before) > 50
        known = mesh.catalog.run(NODES.format(mesh.catalog.address)).stdout
        assert (True, False) == (mesh.hosts[0].name in known, leaver.name in known)


def test_taking_the_catalog_out_leaves_nothing(hosts: Hosts) -> None:
    """Its second block, on a host that has nothing else."""
    with hosts.up("never") as never, hosts.up("keeper", product=True) as keeper:
        install_catalog(keeper)
        follow(keeper, "remove-catalog", {})
        assert [*unified_diff(_state(never), _state(keeper), lineterm="", n=0)] == []


def _state(host: Host) -> list[str]:
    return host.enter("sh", "-c", STATE).stdout.splitlines()
