"""Meshes of any size, as a catalog would describe them."""

import msgspec

from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.config import Config, parse_config
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance

PER_HOST = 10
"""Instances on each host."""


class Size(msgspec.Struct, frozen=True):
    """How much of everything."""

    services: int = 10_000
    endpoints: int = 5
    """Of each service."""
    intentions: int = 5_000


def catalog_of(size: Size) -> CatalogState:
    """A mesh of so many services; nothing in it is shared that is not shared when answers are parsed one by one."""
    hosts = tuple(host(number) for number in range(max(size.services * size.endpoints // PER_HOST, 1)))
    instances = {service(n): tuple(row(hosts, n, m, size) for m in range(size.endpoints)) for n in range(size.services)}
    intentions = tuple(
        IntentionRow(service((n * 7 + 1) % size.services), service(n * 3 % size.services), "allow") for n in range(size.intentions)
    )
    state = CatalogState(hosts, instances, intentions, protocols={service(n): "http" for n in range(0, size.services, 10)})
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=CatalogState)


def service(number: int) -> str:
    """A service's name."""
    return f"service-{number}"


def host(number: int) -> Host:
    """One with an agent."""
    return Host(f"host{number + 1}", (f"10.{80 + number // 65536}.{number // 256 % 256}.{number % 256}",), 15008)


def row(hosts: tuple[Host, ...], number: int, position: int, size: Size) -> InstanceRow:
    """An instance of the service of that number."""
    on = hosts[(number * size.endpoints + position) % len(hosts)]
    address = Address(on.addresses[0], 1024 + number)
    return InstanceRow(Instance(service(number), on.name, (address,)), on)


def config_in(folder: str) -> Config:
    """The first host's configuration, with its state in `folder`."""
    return parse_config(
        f'[host]\nname = "host1"\naddresses = ["{host(0).addresses[0]}"]\n'
        f'[catalog]\naddress = "http://127.0.0.1:1"\n[admin]\nstate_dir = "{folder}"\n',
        "bench.toml",
    )
