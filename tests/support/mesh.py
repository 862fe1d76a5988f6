"""A mesh in a few words: host1 is here, host2 has an agent, host3 has none."""

from nodeagent.catalog.compiler import compile_snapshot
from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.config import Config, parse_config
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance
from nodeagent.model.snapshot import Snapshot

HOST1 = Host("host1", ("10.77.0.1", "fd77::1"), 15008)
HOST2 = Host("host2", ("10.77.0.2", "fd77::2"), 15008)
HOST3 = Host("host3", ("10.77.0.3", "fd77::3"), 0)
HOSTS = (HOST1, HOST2, HOST3)

SHOP = Address("10.77.0.1", 9000)
CART = Address("10.77.0.1", 7000)
WEB = Address("10.77.0.2", 80)
WEB6 = Address("fd77::2", 80)
LEGACY = Address("10.77.0.3", 5432)


def config(extra: str = "", *, mode: str = "strict") -> Config:
    """host1's configuration; `extra` is more TOML."""
    return parse_config(
        f'[host]\nname = "host1"\naddresses = ["10.77.0.1", "fd77::1"]\nmode = "{mode}"\n'
        f'[catalog]\naddress = "https://10.77.0.250:8501"\n{extra}',
        "test.toml",
    )


def instance(
    host: Host, port: int, *, ips: tuple[str, ...] = (), healthy: bool = True, id_: str = "", since: int = 0
) -> InstanceRow:  # fmt: skip
    """An instance at these addresses, or at all of the host's; registered at the index `since`."""
    addresses = tuple(Address(ip, port) for ip in ips or host.addresses)
    return InstanceRow(Instance(id_ or f"{host.name}-{port}", host.name, addresses, healthy=healthy), host, registered_at=since)


def intention(text: str) -> IntentionRow:
    """`shop -> web allow`."""
    source, _, destination, action = text.split()
    return IntentionRow(source, destination, "allow" if action == "allow" else "deny")


def state(*intentions: str, **services: tuple[InstanceRow, ...]) -> CatalogState:
    """shop and cart on host1, web on host2, legacy on host3; and more."""
    instances = {
        "shop": (instance(HOST1, 9000),),
        "cart": (instance(HOST1, 7000),),
        "web": (instance(HOST2, 80),),
        "legacy": (instance(HOST3, 5432),),
    }
    return CatalogState(HOSTS, instances | services, tuple(map(intention, intentions)))


def mesh(
    *intentions: str, mode: str = "strict", extra: str = "", generation: int = 1, **services: tuple[InstanceRow, ...]
) -> Snapshot:
    """The snapshot of `state(…)` as host1's agent has it."""
    return compile_snapshot(
        state(*intentions, **services), config(extra, mode=mode), trust_domain="test.consul", generation=generation
    )


def seen_by(host: str, **services: tuple[InstanceRow, ...]) -> Snapshot:
    """As an agent of host1 or host2 has it."""
    ips = list(next(each for each in HOSTS if each.name == host).addresses)
    own = parse_config(f'[host]\nname = "{host}"\naddresses = {ips}\n[catalog]\naddress = "https://10.9.9.9:1"\n', "t")
    return compile_snapshot(CatalogState(HOSTS, services), own, trust_domain="td", generation=1)
