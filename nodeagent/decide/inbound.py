"""What may reach this machine's applications: streams in a peer's tunnel, and clear text."""

from nodeagent.decide.authorize import authorize
from nodeagent.decide.mode import mode_of
from nodeagent.decide.outbound import Via, to_unregistered, would_decide
from nodeagent.decide.route import ToService, find_destination
from nodeagent.errors import BadDestination, PlaintextRefused
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.snapshot import Snapshot


def decide_stream(snapshot: Snapshot, source: str, service: str, authority: Address) -> Via:
    """How a stream from a peer's agent goes on: to the application that is registered at `authority`.

    source, service: as the certificates and the SNI proved them, never a header.
    The callee is who enforces: what the caller's agent thought does not count.

    Raises:
        BadDestination: `authority` is not where `service` is registered on this host: no tunnel is an open proxy.
        Denied: no intention allows it, and the mode is not observe.
    """
    found = snapshot.by_address.get(authority)
    owner = snapshot.host_by_ip.get(authority.ip)
    here = snapshot.mesh.host
    is_here = found is not None and found.instance.host == here and (owner is None or owner.name == here)
    if found is None or not is_here or found.service.name != service:
        cure = f"see there: nodeagent services; the caller's agent may have an old snapshot (generation here: {snapshot.generation})"
        raise BadDestination(f"{source} asked for {service or 'no service'} at {authority}, which is not registered on {here}; {cure}")
    if mode_of(snapshot, service) == "observe":
        return Via("local", authority, service, None, None, would_decide(snapshot, source, service))
    return Via("local", authority, service, authorize(snapshot, source, service), None, "")


def decide_plaintext(snapshot: Snapshot, dst: OriginalDst) -> Via:
    """How clear text from outside at a local address goes on.

    Raises:
        PlaintextRefused: a service is registered there that takes tunnels only.
        UnregisteredPort: none is, and such ports are refused here.
    """
    to = find_destination(snapshot, dst, dst_is_local=True)
    if not isinstance(to, ToService):
        return to_unregistered(snapshot, dst, snapshot.mesh.host)
    name = to.service.name
    if mode_of(snapshot, name) == "strict":
        cure = f'call it through an agent, or set mode = "permissive" under [service.{name}]'
        raise PlaintextRefused(f"clear text arrived at {name} ({dst}), which takes tunnels only; {cure}")
    return Via("local", dst, name, None, None, "plaintext")


__all__ = ["decide_plaintext", "decide_stream", "mode_of"]
