"""`nodeagent why`: the functions of the data path, asked one after another, and what each of them said. No decision of its own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import msgspec

from nodeagent.decide.authorize import admits, considered_intentions, deciding_intention, protocol_of, speaks_http
from nodeagent.decide.inbound import decide_plaintext, decide_stream
from nodeagent.decide.mode import mode_of
from nodeagent.decide.outbound import Via, decide_outbound
from nodeagent.decide.route import Elsewhere, ToHost, ToService, find_destination
from nodeagent.errors import AgentError, Reason
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.explanation import Step, Verdict
from nodeagent.model.intention import Intention
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.service import Instance
from nodeagent.model.snapshot import Snapshot

_HOW = {
    "stamp": "the stamp that the kernel put on its SYN",
    "conntrack": "conntrack and sock_diag, for its SYN had no stamp",
    "certificate": "the certificate of its tunnel",
    "unknown": "nothing",
}


_AFTERWARDS = frozenset({
    Reason.OK, Reason.RESET_BY_DOWNSTREAM, Reason.RESET_BY_UPSTREAM, Reason.PEER_LOST, Reason.POLICY_CHANGED, Reason.REVOKED, Reason.DRAINED,
})  # fmt: skip
"""Ends of connections that had been let through."""


class Target(NamedTuple):
    """What is called."""

    address: Address
    is_local: bool


class Call(NamedTuple):
    """A call, decided."""

    steps: tuple[Step, ...]
    via: Via | None
    """The way on; None: refused."""


def targets(snapshot: Snapshot, service: str, port: int = 0) -> list[Target]:
    """Where a service was registered, the likeliest first: healthy instances, IPv4. port: only at this one."""
    known = snapshot.services.get(service)
    instances = sorted(known.instances if known else (), key=lambda instance: (instance.gone, not instance.healthy))
    found = [(a, instance) for instance in instances for a in instance.addresses if port in (0, a.port)]
    return [Target(address, _is_here(snapshot, instance)) for address, instance in found]


def targets_at(snapshot: Snapshot, service: str, address: Address) -> list[Target]:
    """The target at this very address, where the service was registered, or is met because of a registration; else none."""
    named = [target for target in targets(snapshot, service, address.port) if target.address == address]
    found = snapshot.by_address.get(address)
    return named or ([Target(address, _is_here(snapshot, found.instance))] if found and found.service.name == service else [])


def explain_call(snapshot: Snapshot, source: str, target: Target) -> Call:
    """How a call of `source` (empty: an unidentified workload) would go on now."""
    to = find_destination(snapshot, OriginalDst(target.address), dst_is_local=target.is_local)
    steps = [_destination(to)]
    if isinstance(to, ToService):
        steps += [_mode(snapshot, to.service.name), *_intentions(snapshot, source, to.service.name)]
    try:
        via = decide_outbound(snapshot, source, to)
    except AgentError as error:
        return Call((*steps, _refusal("way", error)), None)
    return Call((*steps, Step("way", "ok", _way(via)), *_clear_callee(to, via)), via)


def explain_caller(snapshot: Snapshot, source: str) -> Step:
    """Whether a process of this host can speak as `source`, and which; empty: one of no service."""
    if not source:
        return Step("workload", "note", "an unidentified workload: in the unit of no service, and named by no [[workload]]")
    for rule in snapshot.mesh.workloads:
        if rule.service == source:
            kind, value = rule.selector.kind, rule.selector.value
            return Step("workload", "ok", f"processes with {kind}:{value} speak as {source} ([[workload]] of nodeagent.toml)")
    units, unit = snapshot.mesh.units, f"{source}.service"
    known = snapshot.services.get(source)
    is_here = known is not None and any(_is_here(snapshot, instance) for instance in known.instances)
    if units == "any" or (units == "registered" and is_here) or source in units or unit in units:
        text = units if isinstance(units, str) else "a list that has it"
        return Step("workload", "ok", f"{unit} speaks as {source} (identity.units: {text})")
    return Step("workload", "unknown", f"no process of this host speaks as {source}; ask on the host where it runs")


def explain_record(row: ConnectionRow) -> list[Step]:
    """What was written down of a connection when it was decided, and how it has ended."""
    if not row.original_dst:
        return _tunnel(row)
    who = f"{row.source or 'unidentified'}{f', unit {row.unit}' if row.unit else ''}{f', uid {row.uid}' if row.uid is not msgspec.UNSET else ''}"
    said = [
        f"{row.direction} from {row.client} to {row.original_dst}",
        f"decided by generation {row.generation}" + (f" in mode {row.mode}" if row.mode else ""),
        f"went {row.path}" if row.path != "none" else "went nowhere",
        f"permit: {row.permit}" if row.permit else "",
    ]
    steps = [
        Step("recorded", "note", "; ".join(filter(None, said))),
        Step("workload", "ok" if row.source else "note", f"{who}; known by {_HOW[row.how]}"),
    ]
    if not row.closed_at:
        return [*steps, Step("recorded", "ok", f"it is open; {row.sent} bytes sent, {row.received} received")]
    ended = f"it ended: {row.reason}{f' ({row.error})' if row.error else ''}"
    if not has_passed(row):
        return [*steps, Step("recorded", "refused", f"{ended}; {row.sent} bytes had come from the client")]
    moved = f"{row.sent} bytes sent, {row.received} received"
    return [*steps, Step("recorded", "note" if row.error else "ok", f"{ended}; {moved}")]


def _tunnel(row: ConnectionRow) -> list[Step]:
    """A tunnel that has left a line of its own, besides those of connections in it."""
    whom = f"{row.peer or 'a host that the catalog does not have'} at {row.client or 'an address that is not known any more'}"
    what, end = f"a tunnel handshake with {whom}: nobody had proven yet which service calls", "refused"
    if row.source:
        what, end = f"the tunnel of {row.source} -> {row.destination} with {whom}", "cut"
    return [Step("recorded", "note", what), Step("recorded", "refused", f"it was {end}: {row.reason} ({row.error})")]


def has_passed(row: ConnectionRow) -> bool:
    """Whether the connection was let through to its other end, whatever became of it then."""
    return row.path != "none" and (row.reason in _AFTERWARDS or bool(row.received))


def explain_stream(snapshot: Snapshot, source: str, service: str, address: Address) -> Step:
    """What this host, where the service is called, says to such a stream in a tunnel."""
    try:
        via = decide_stream(snapshot, source, service, address)
    except AgentError as error:
        return _refusal("callee", error)
    how = via.permit.by if via.permit else via.note
    return Step("callee", "ok", f"it takes the stream{f', by {how}' if how else ''}, and dials {address}")


def explain_callee(snapshot: Snapshot, source: str, service: str, address: Address) -> Step:
    """What the callee's agent will say, as far as this snapshot tells: it decides by its own."""
    found = snapshot.by_address.get(address)
    peer = found.instance.host if found else ""
    there = replace(snapshot, mesh=msgspec.structs.replace(snapshot.mesh, host=peer, mode="strict"))
    by = f"{peer or 'the callee'}, by this host's snapshot {snapshot.generation}"
    if found and found.instance.gone:
        return Step("callee", "refused", f"the catalog has it no more: the agent there refuses it, unless it knows that {service} still runs", by)
    return msgspec.structs.replace(explain_stream(there, source, service, address), by=by)


def explain_plaintext(snapshot: Snapshot, address: Address) -> Step:
    """What this host says to clear text from outside that arrives at one of its addresses."""
    try:
        via = decide_plaintext(snapshot, OriginalDst(address))
    except AgentError as error:
        return _refusal("callee", error)
    return Step("callee", "ok", f"it takes the clear text, and dials {via.address}")


def _clear_callee(to: ToService | ToHost | Elsewhere, via: Via) -> Iterator[Step]:
    """Clear text to a host with an agent: that one's modes are in no snapshot but its own."""
    if isinstance(to, ToService) and via.path == "direct" and not to.is_local and to.host and to.host.tunnel_port:
        refused = f"refuses clear text where {to.host.name} or its {to.service.name} is strict"
        yield Step("callee", "unknown", f"the agent of {to.host.name} {refused}; see there: nodeagent enforce --list")


def _destination(to: ToService | ToHost | Elsewhere) -> Step:
    match to:
        case ToService(service=service, instance=instance, address=address, host=host, is_local=is_local):
            agent = "with an agent" if host and host.tunnel_port else "without an agent"
            where = "this host" if is_local else f"{host.name if host else instance.host}, {agent}"
            beside = "" if address in instance.addresses else f" (registered at another of its addresses: the agent takes port {address.port} at each)"
            sick = ", which the catalog has no more" if instance.gone else "" if instance.healthy else ", which the catalog calls unhealthy"
            return Step("destination", "ok", f"{address} is instance {instance.id} of {service.name} on {where}{beside}{sick}")
        case ToHost(host=host, address=address):
            return Step("destination", "note", f"{address} is a port of {host.name} at which no service is registered")
        case Elsewhere(address=address):
            return Step("destination", "note", f"{address} is nothing that the mesh knows")


def _mode(snapshot: Snapshot, service: str) -> Step:
    known = snapshot.services.get(service)
    of = f"of {service} on this host" if known and known.mode else "of this host"
    return Step("mode", "ok", f"{mode_of(snapshot, service)}, the mode {of}")


def _intentions(snapshot: Snapshot, source: str, destination: str) -> Iterator[Step]:
    """Each that speaks of the pair, the deciding one first."""
    if not source:
        yield Step("intention", "note", "none can allow an unidentified workload")
        return
    decider = deciding_intention(snapshot, source, destination)
    if decider is None:
        yield Step("intention", "refused", f"none speaks of {source} -> {destination}: the default is deny")
        return
    verdict: Verdict = "ok" if admits(snapshot, decider, destination) else "refused"
    yield Step("intention", verdict, f"{decider}, precedence {decider.precedence}: decides{_by_request(snapshot, decider, destination)}")
    others = {row for row in considered_intentions(snapshot, source, destination) if row != decider}
    for row in sorted(others, key=lambda row: (-row.precedence, row.word)):
        why = "of the same rank, and deny goes first" if row.precedence == decider.precedence else "of lower rank"
        yield Step("intention", "note", f"{row}, precedence {row.precedence}: {why}")


def _by_request(snapshot: Snapshot, decider: Intention, destination: str) -> str:
    if not decider.is_by_request:
        return ""
    if speaks_http(snapshot, destination):
        return f" each request, by the first of {len(decider.permissions)} permissions that matches, else deny"
    return f", and denies: it is about requests, which are read of services that speak http; {destination} speaks {protocol_of(snapshot, destination)}"


def _way(via: Via) -> str:
    match via.path:
        case "tunnel":
            peer = via.peer.name if via.peer else "the peer"
            return f"in a tunnel to the agent of {peer}, which is asked for {via.address}"
        case "local":
            return f"straight to {via.address} on this host: no wire to protect{f' ({via.note})' if via.note else ''}"
        case _:
            return f"in clear to {via.address}, as without an agent{f' ({via.note})' if via.note else ''}"


def _refusal(what: str, error: AgentError) -> Step:
    return Step(what, "refused", f"{error.reason}: {error}")


def _is_here(snapshot: Snapshot, instance: Instance) -> bool:
    return instance.host == snapshot.mesh.host
