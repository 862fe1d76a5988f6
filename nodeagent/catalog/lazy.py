"""Services that are decoded when they are first asked for: most workers meet few of the mesh's services."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nodeagent.catalog.buckets import Buckets
from nodeagent.errors import CatalogError
from nodeagent.model.policy.values import from_plain
from nodeagent.model.service import Service

_decoder = msgspec.msgpack.Decoder(Service, dec_hook=from_plain)


class LazyServices(Mapping[str, Service]):
    """Services by name, some still in bytes. Immutable to its readers; `replaced` makes another one, which shares what is the same."""

    __slots__ = ("_services",)

    def __init__(self, services: Buckets[msgspec.Raw | Service]) -> None:
        self._services = services

    def __getitem__(self, name: str) -> Service:
        service = self._services[name]
        if isinstance(service, msgspec.Raw):
            service = _decode(name, service)
            self._services.put(name, service)
        return service

    def __contains__(self, name: object) -> bool:
        return name in self._services

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def replaced(self, changed: Iterable[Service], removed: Iterable[str]) -> "LazyServices":
        """The same with some services changed or new, and without those removed."""
        changes: dict[str, msgspec.Raw | Service | None] = dict.fromkeys(removed)
        changes |= {service.name: service for service in changed}
        return LazyServices(self._services.changed(changes)) if changes else self


def _decode(name: str, raw: msgspec.Raw) -> Service:
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"the saved snapshot's service {name} cannot be read: {error}") from error
