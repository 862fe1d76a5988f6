"""Snapshots and deltas as bytes: for the workers, and for the last-known-good file."""

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from nodeagent import limits
from nodeagent.catalog.buckets import Buckets, buckets_of
from nodeagent.catalog.diff import Delta, owners_of
from nodeagent.catalog.lazy import LazyServices
from nodeagent.catalog.registrations import by_address, by_port, rows_of
from nodeagent.errors import CatalogError
from nodeagent.model.intention import Intention
from nodeagent.model.policy.values import from_plain, to_plain
from nodeagent.model.service import Host, Service
from nodeagent.model.snapshot import Mesh, Snapshot

VERSION = 1

Value = TypeVar("Value")
Shape = TypeVar("Shape")


class _Whole(msgspec.Struct, frozen=True):
    """A snapshot as it travels: what grows with the mesh is in pieces, so that no reader must decode all at once.

    The pieces are bytes and not `msgspec.Raw`, which is walked to find its end: 5 ms for 10,000 services.
    """

    version: int
    generation: int
    mesh: Mesh
    wildcards: tuple[Intention, ...]
    hosts: tuple[bytes, ...]
    services: tuple[bytes, ...]
    addresses: tuple[bytes, ...]
    owners: tuple[bytes, ...]
    ports: dict[str, str]


_encoder = msgspec.msgpack.Encoder(enc_hook=to_plain)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot as bytes."""
    whole = _Whole(
        version=VERSION,
        generation=snapshot.generation,
        mesh=snapshot.mesh,
        wildcards=snapshot.wildcards,
        hosts=_pieces(snapshot.hosts),
        services=_pieces(snapshot.services),
        addresses=_pieces(rows_of(snapshot.by_address)),
        owners=_pieces(owners_of(snapshot)),
        ports=dict(rows_of(snapshot.local_by_port)),
    )
    return _encoder.encode(whole)


def decode_snapshot(body: bytes) -> Snapshot:
    """The snapshot in `body`; each service is decoded, and checked, when it is first asked for.

    Raises:
        CatalogError: not a snapshot of this version.
    """
    steps = decode_steps(body)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            snapshot: Snapshot = done.value
            return snapshot


def decode_steps(body: bytes) -> Generator[None, None, Snapshot]:
    """As `decode_snapshot`, in steps of about a millisecond: a worker gives its connections a turn after each.

    Raises:
        CatalogError: as `decode_snapshot`.
    """
    whole = _decode(body, _Whole, "snapshot")
    if whole.version != VERSION:
        raise CatalogError(f"a snapshot of version {whole.version}; this agent reads version {VERSION}")
    hosts = yield from _gather(whole.hosts, dict[str, Host])
    raw: Buckets[msgspec.Raw | Service] = Buckets()
    yield from _fill(raw, whole.services, dict[str, msgspec.Raw])
    addresses: Buckets[str] = Buckets()
    yield from _fill(addresses, whole.addresses, dict[str, str])
    owners = yield from _gather(whole.owners, dict[str, str])
    services = LazyServices(raw)
    yield
    try:
        host_by_ip = {ip: hosts[name] for ip, name in owners.items()}
    except KeyError as error:
        raise CatalogError(f"a snapshot that names the host {error} and does not have it") from error
    return Snapshot(
        generation=whole.generation,
        mesh=whole.mesh,
        services=services,
        hosts=hosts,
        wildcards=whole.wildcards,
        by_address=by_address(addresses, services),
        host_by_ip=host_by_ip,
        local_by_port=by_port(whole.ports, services),
    )


def encode_delta(delta: Delta) -> bytes:
    """The delta as bytes."""
    return _encoder.encode(delta)


def decode_delta(body: bytes) -> Delta:
    """The delta in `body`.

    Raises:
        CatalogError: not a delta.
    """
    return _decode(body, Delta, "delta")


def apply_delta(snapshot: Snapshot, delta: Delta) -> Snapshot:
    """The snapshot of `delta.generation`.

    Raises:
        CatalogError: the delta starts from another generation, or names a host that is in neither.
    """
    if delta.base != snapshot.generation:
        raise CatalogError(f"a delta from generation {delta.base}; this snapshot is generation {snapshot.generation}")
    services = _lazy(snapshot.services).replaced(delta.services, delta.removed)
    hosts = _hosts(snapshot.hosts, delta)
    return Snapshot(
        generation=delta.generation,
        mesh=delta.mesh or snapshot.mesh,
        services=services,
        hosts=hosts,
        wildcards=snapshot.wildcards if delta.wildcards is None else delta.wildcards,
        by_address=by_address(buckets_of(rows_of(snapshot.by_address)).changed(delta.addresses), services),
        host_by_ip=_owned(snapshot.host_by_ip, delta, hosts),
        local_by_port=by_port(buckets_of(rows_of(snapshot.local_by_port)).changed(delta.ports), services),
    )


def _lazy(services: Mapping[str, Service]) -> LazyServices:
    if isinstance(services, LazyServices):
        return services
    met: Buckets[msgspec.Raw | Service] = Buckets()
    met.fill(services.items())
    return LazyServices(met)


def _hosts(hosts: Mapping[str, Host], delta: Delta) -> Mapping[str, Host]:
    if not (delta.hosts or delta.removed_hosts):
        return hosts
    kept = {name: host for name, host in hosts.items() if name not in delta.removed_hosts}
    return kept | {host.name: host for host in delta.hosts}


def _owned(owned: Mapping[str, Host], delta: Delta, hosts: Mapping[str, Host]) -> dict[str, Host]:
    """Hosts by address, with the changes of owners and of the hosts themselves."""
    merged = dict(owned)
    for host in delta.hosts:
        merged |= {ip: host for ip in host.addresses if ip in merged and merged[ip].name == host.name}
    for ip, name in delta.owners.items():
        if name is None:
            merged.pop(ip, None)
        elif name in hosts:
            merged[ip] = hosts[name]
        else:
            raise CatalogError(f"a delta that names the host {name!r}, which is not there")
    return merged


def _pieces(rows: Mapping[str, Value]) -> tuple[bytes, ...]:
    """The rows as maps of at most DECODE_ROWS each."""
    items = iter(rows.items())
    return tuple(_encoder.encode(piece) for piece in iter(lambda: _take(items), {}))


def _take(items: Iterator[tuple[str, Value]]) -> dict[str, Value]:
    return dict(islice(items, limits.DECODE_ROWS))


def _gather(pieces: tuple[bytes, ...], shape: type[dict[str, Value]]) -> Generator[None, None, dict[str, Value]]:
    """All pieces in one map, a step each."""
    gathered: dict[str, Value] = {}
    for piece in pieces:
        gathered.update(_decode(piece, shape, "snapshot"))
        yield
    return gathered


def _fill(buckets: Buckets[Value], pieces: tuple[bytes, ...], shape: type[Mapping[str, Value]]) -> Generator[None, None, None]:
    """All pieces in these buckets, a step each."""
    for piece in pieces:
        buckets.fill(_decode(piece, shape, "snapshot").items())
        yield


def _decode(body: bytes, shape: type[Shape], what: str) -> Shape:
    try:
        return msgspec.msgpack.decode(body, type=shape, dec_hook=from_plain)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"not a {what} of this version: {error}") from error
