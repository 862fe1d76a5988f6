"""Whether to look for news before a call is decided: where some services are not watched, who is called may be new."""

from nodeagent.decide.route import Destination, Elsewhere, ToHost, ToService
from nodeagent.model.address import Address
from nodeagent.model.snapshot import Snapshot


def host_to_ask(snapshot: Snapshot, destination: Destination) -> str:
    """The machine whose registrations are to be read first; empty: the call is decided by what is known.

    Only one with an agent, at a port at which nobody is known, or who is gone, as another may be there by now: what is registered there
    is to be called through the agent.
    """
    is_open = isinstance(destination, ToHost) or (isinstance(destination, ToService) and destination.instance.gone)
    if isinstance(destination, Elsewhere) or destination.host is None or not (snapshot.mesh.is_late and is_open):
        return ""
    host = destination.host
    has_agent = host.tunnel_port not in (0, destination.address.port)
    return host.name if has_agent and host.name != snapshot.mesh.host else ""


def is_to_ask_here(snapshot: Snapshot, authority: Address) -> bool:
    """The same at the callee: whether a peer may know of somebody at this address of this host of whom its own agent does not yet."""
    owner = snapshot.host_by_ip.get(authority.ip)
    is_ours = owner is not None and owner.name == snapshot.mesh.host
    return snapshot.mesh.is_late and is_ours and authority not in snapshot.by_address
