"""Registrations by address or port, kept as text: a service is looked up, and perhaps decoded, when it is met.

An index of 10,000 services has 60,000 rows. As text they decode ten times faster than as tuples, and the garbage collector
need not look at them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from nodeagent.model.address import Address
from nodeagent.model.service import Service
from nodeagent.model.snapshot import Registration

Key = TypeVar("Key")

Rows = Mapping[str, str]
"""`10.0.0.1:80` or `80` → `2 web`: the third instance of web."""


class Registrations(Mapping[Key, Registration]):
    """A view of `services` through rows. Immutable: whoever changes the rows makes another one."""

    __slots__ = ("_key_of", "_services", "rows")

    def __init__(self, rows: Rows, services: Mapping[str, Service], key_of: Callable[[str], Key]) -> None:
        self.rows = rows
        self._services = services
        self._key_of = key_of

    def __getitem__(self, key: Key) -> Registration:
        position, _, name = self.rows[str(key)].partition(" ")
        service = self._services[name]
        return Registration(service, service.instances[int(position)])

    def __iter__(self) -> Iterator[Key]:
        return map(self._key_of, self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def by_address(rows: Rows, services: Mapping[str, Service]) -> Registrations[Address]:
    """Registrations by (ip, port)."""
    return Registrations(rows, services, address_in)


def by_port(rows: Rows, services: Mapping[str, Service]) -> Registrations[int]:
    """Registrations by port."""
    return Registrations(rows, services, int)


def row_text(service: str, position: int) -> str:
    """The text of one row's value."""
    return f"{position} {service}"


def service_in(text: str) -> str:
    """The service that a row's value names."""
    return text.partition(" ")[2]


def rows_of(registrations: Mapping[Key, Registration]) -> Rows:
    """The rows behind any registrations, whoever made them."""
    if isinstance(registrations, Registrations):
        return registrations.rows
    return {str(key): row_text(r.service.name, r.service.instances.index(r.instance)) for key, r in registrations.items()}


def address_in(key: str) -> Address:
    """The address in a row's key, which is canonical: `parse_address` without its checks, ten times faster."""
    return Address(ip_in(key), int(key.rpartition(":")[2]))


def ip_in(key: str) -> str:
    """The address's IP."""
    return key.rpartition(":")[0].strip("[]")
