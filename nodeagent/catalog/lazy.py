"""Services that are decoded when they are first asked for: most workers meet few of the mesh's services."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from nodeagent.errors import CatalogError
from nodeagent.model.service import Service

_decoder = msgspec.msgpack.Decoder(Service)


class LazyServices(Mapping[str, Service]):
    """Services by name, some still in bytes. Immutable to its readers; `replaced` makes another one."""

    __slots__ = ("_met", "_raw")

    def __init__(self, raw: dict[str, msgspec.Raw], met: dict[str, Service]) -> None:
        self._raw = raw
        self._met = met

    def __getitem__(self, name: str) -> Service:
        service = self._met.get(name)
        if service is None:
            service = self._met[name] = _decode(name, self._raw[name])
        return service

    def __contains__(self, name: object) -> bool:
        return name in self._raw or name in self._met

    def __iter__(self) -> Iterator[str]:
        yield from self._raw
        yield from (name for name in self._met if name not in self._raw)

    def __len__(self) -> int:
        return len(self._raw.keys() | self._met.keys())

    def replaced(self, changed: Iterable[Service], removed: Iterable[str]) -> "LazyServices":
        """The same with some services changed or new, and without those removed."""
        raw, met = self._raw.copy(), self._met.copy()
        for name in removed:
            raw.pop(name, None)
            met.pop(name, None)
        for service in changed:
            raw.pop(service.name, None)
            met[service.name] = service
        return LazyServices(raw, met)


def _decode(name: str, raw: msgspec.Raw) -> Service:
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"the saved snapshot's service {name} cannot be read: {error}") from error
