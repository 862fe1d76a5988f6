"""What a captured destination means."""

from dataclasses import dataclass

from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.service import Host, Instance, Service
from nodeagent.model.snapshot import Registration, Snapshot


@dataclass(frozen=True, slots=True)
class ToService:
    """A registered instance of a service."""

    service: Service
    instance: Instance
    address: Address
    """Where the client wanted to go: that very address is dialled."""
    host: Host | None
    """The machine behind the address; None where the catalog does not know it."""
    is_local: bool
    """Whether that machine is this one."""


@dataclass(frozen=True, slots=True)
class ToHost:
    """A machine of the mesh, at a port where no service is registered."""

    host: Host
    address: Address


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An address that was captured, of which the mesh knows nothing."""

    address: Address


Destination = ToService | ToHost | Elsewhere


def implied_addresses(snapshot: Snapshot, instance: Instance) -> list[Address]:
    """Where the instance is met besides the addresses of its registration: its host's other ones, at its ports."""
    host, ports = snapshot.hosts.get(instance.host), sorted({address.port for address in instance.addresses})
    places = [Address(ip, port) for ip in (host.addresses if host else ()) for port in ports]
    others = (place for place in places if place not in instance.addresses)
    return [other for other in others if (found := snapshot.by_address.get(other)) and found.instance == instance]


def find_destination(snapshot: Snapshot, dst: OriginalDst, *, dst_is_local: bool) -> Destination:
    """What `dst` means in this snapshot.

    dst_is_local: the address is one of this machine's, whether the catalog knows it or not.
    """
    # 1) A registered address means that very instance: databases and clusters have roles.
    #    Not at an address of this machine, though, where another host claims it: what listens here is ours.
    exact = snapshot.by_address.get(dst)
    if exact is not None and not (dst_is_local and exact.instance.host != snapshot.mesh.host):
        return _to_service(snapshot, exact, dst, is_here=dst_is_local)
    # 2) At any of its addresses this machine answers for what is registered here on that port.
    by_port = snapshot.local_by_port.get(dst.port) if dst_is_local else None
    if by_port is not None:
        return _to_service(snapshot, by_port, dst, is_here=True)
    # 3) A machine of the mesh, or nothing that the mesh knows.
    host = snapshot.host_by_ip.get(dst.ip)
    return ToHost(host, dst) if host else Elsewhere(dst)


def _to_service(snapshot: Snapshot, found: Registration, dst: Address, *, is_here: bool) -> ToService:
    """The destination with its machine: whose address it is, else where the instance was registered.

    The owner of the address goes first, so that a registration on one machine cannot draw the traffic of another.
    """
    here = snapshot.hosts.get(snapshot.mesh.host) if is_here else None
    host = here or _machine_of(snapshot, found.instance, dst)
    is_local = is_here or (host.name if host else found.instance.host) == snapshot.mesh.host
    return ToService(found.service, found.instance, dst, host, is_local)


def _machine_of(snapshot: Snapshot, instance: Instance, dst: Address) -> Host | None:
    """The owner of the address; of what is gone the one with an agent, for clear text is not to go to whoever takes an address over."""
    owner, other = snapshot.host_by_ip.get(dst.ip), snapshot.hosts.get(instance.host)
    if instance.gone and other and other.tunnel_port and not (owner and owner.tunnel_port):
        return other
    return owner or other
