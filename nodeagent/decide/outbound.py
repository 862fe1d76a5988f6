"""How a call of a local workload goes on: in a tunnel, to this machine, in clear, or not at all."""

from dataclasses import dataclass
from typing import assert_never

from nodeagent.decide.authorize import Permit, admits, authorize, deciding_intention
from nodeagent.decide.mode import mode_of
from nodeagent.decide.route import Destination, Elsewhere, ToHost, ToService
from nodeagent.errors import Loop, NoPeer, Unidentified, UnregisteredPort
from nodeagent.model.address import Address
from nodeagent.model.outcome import Path
from nodeagent.model.service import Host, Mode
from nodeagent.model.snapshot import Snapshot

NO_PEER = "no_peer"
"""The note of a connection to a machine without an agent."""


@dataclass(frozen=True, slots=True)
class Via:
    """The way on, decided; what remains is to go it."""

    path: Path
    address: Address
    """What is dialled, or what the peer's agent is asked for."""
    service: str
    """The service that is called; empty where none is registered."""
    permit: Permit | None
    """The proof; None where this mode asks for none."""
    peer: Host | None
    """Whose agent takes the tunnel."""
    note: str
    """What is worth a record although it passes: `no_peer`, `unidentified`, `plaintext`, `would_deny: …`, `would_allow: …`."""


def decide_outbound(snapshot: Snapshot, source: str, destination: Destination) -> Via:
    """How `source` (empty: unidentified) reaches `destination`.

    Raises:
        Loop: it is where another host's agent takes tunnels, which are for agents to open.
        Denied: no intention allows it.
        Unidentified: the mode wants to know who calls.
        NoPeer: the mode wants a tunnel and the machine runs no agent.
        UnregisteredPort: no service is registered there, and such ports are refused here.
    """
    _refuse_tunnel_port(destination)
    match destination:
        case ToService():
            return _to_service(snapshot, source, destination)
        case ToHost(host=host, address=address):
            return to_unregistered(snapshot, address, host.name)
        case Elsewhere(address=address):
            return to_unregistered(snapshot, address, "")
    assert_never(destination)


def is_read(snapshot: Snapshot, via: Via) -> bool:
    """Whether requests on this way are read, and decided one by one: those of a service that speaks http, where policy is enforced.

    Not on a way in clear to a machine without an agent, nor where the mode asks for no permit: there everything passes as without us.
    """
    service = snapshot.services.get(via.service)
    return service is not None and service.protocol == "http" and via.permit is not None and via.path in ("tunnel", "local")


def _refuse_tunnel_port(to: Destination) -> None:
    """In every mode: whoever gets through could take the places that this host's agent has at its peer."""
    if not isinstance(to, Elsewhere) and to.host and to.host.tunnel_port == to.address.port:
        raise Loop(f"{to.address} is where the agent of {to.host.name} takes tunnels; only agents may call it")


def to_unregistered(snapshot: Snapshot, address: Address, host: str) -> Via:
    """The way to an address where no service is registered: as if there were no agent.

    Raises:
        UnregisteredPort: this host refuses such ports.
    """
    if snapshot.mesh.unregistered != "passthrough":
        where = f"{address} on {host}" if host else str(address)
        cure = f'register it with: nodeagent service register NAME --port {address.port}, or set intercept.unregistered = "passthrough"'
        raise UnregisteredPort(f"no service is registered at {where}, and such ports are refused here; {cure}")
    return Via("direct", address, "", None, None, "")


def would_decide(snapshot: Snapshot, source: str, service: str) -> str:
    """The decision that `observe` does not enforce, for the record."""
    if not source:
        return f"would_deny: unidentified -> {service}"
    decider = deciding_intention(snapshot, source, service)
    if decider is None:
        return f"would_deny: {source} -> {service} (default deny)"
    return f"would_{'allow' if admits(snapshot, decider, service) else 'deny'}: {decider}"


def _to_service(snapshot: Snapshot, source: str, to: ToService) -> Via:
    """The table of modes, for a registered destination. The order of the cases is the meaning."""
    name, mode = to.service.name, mode_of(snapshot, to.service.name)
    has_agent = to.host is not None and to.host.tunnel_port > 0
    # 1) observe: as without the agent, whatever would have been decided.
    if mode == "observe":
        note = would_decide(snapshot, source, name) if to.is_local or has_agent else NO_PEER
        return Via("direct", to.address, name, None, None, note)
    # 2) No identity, no mesh.
    if not source:
        return _unidentified(to, mode)
    # 3) On this machine there is no wire to protect; the intention holds all the same.
    if to.is_local:
        return Via("local", to.address, name, authorize(snapshot, source, name), None, "")
    # 4) A machine with an agent is reached through it and in no other way.
    if has_agent:
        return Via("tunnel", to.address, name, authorize(snapshot, source, name), to.host, "")
    # 5) A machine without one: in clear, where that is allowed.
    return _without_peer(snapshot, source, to, mode)


def _unidentified(to: ToService, mode: Mode) -> Via:
    """The way of a caller that nobody can name, outside observe."""
    name = to.service.name
    if mode == "strict":
        cure = 'run it as the unit of a service, or name it in a [[workload]] of nodeagent.toml; see also mode = "permissive"'
        raise Unidentified(f"an unidentified workload called {name} at {to.address}, which takes known callers only; {cure}")
    return Via("local" if to.is_local else "direct", to.address, name, None, None, "unidentified")


def _without_peer(snapshot: Snapshot, source: str, to: ToService, mode: Mode) -> Via:
    """The way to a machine without an agent.

    Strict asks for leave to speak in clear, and for the intention too: there is no callee's agent that would ask for it, nor read requests.
    """
    name = to.service.name
    if mode != "strict":
        return Via("direct", to.address, name, None, None, NO_PEER)
    if name not in snapshot.mesh.plaintext_ok:
        where = f"{to.address} on {to.host.name}" if to.host else str(to.address)
        cure = f"install nodeagent there, or allow clear text with plaintext_ok = true under [service.{name}]"
        raise NoPeer(f"{name} at {where} has no agent, and strict mode sends nothing there in clear; {cure}")
    return Via("direct", to.address, name, authorize(snapshot, source, name, is_read=False), None, NO_PEER)
