"""What another mode would refuse of the flows that were seen: the functions of the data path, asked before it is switched on."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from nodeagent.decide.identify import service_of
from nodeagent.decide.inbound import decide_plaintext, decide_stream
from nodeagent.decide.outbound import Via, decide_outbound
from nodeagent.decide.route import ToService, find_destination
from nodeagent.errors import AgentError, BadDestination, PlaintextRefused
from nodeagent.model.address import OriginalDst, parse_address
from nodeagent.model.flow import Flow, FlowCount
from nodeagent.model.outcome import Path
from nodeagent.model.service import Host
from nodeagent.model.snapshot import Snapshot
from nodeagent.model.workload import Workload


class Refused(NamedTuple):
    """A flow that passes now and would not."""

    flow: Flow
    error: AgentError
    hint: str
    """What else to know before it is switched on; mostly empty."""


def newly_refused(now: Snapshot, then: Snapshot, flows: Iterable[Flow]) -> list[Refused]:
    """Those that `now` lets pass and `then` would refuse, in the order in which they came."""
    found = ((flow, why_refused(then, flow)) for flow in flows if why_refused(now, flow) is None)
    return [Refused(flow, error, _hint(then, flow)) for flow, error in found if error]


def superseded(then: Snapshot, counts: Mapping[Flow, FlowCount]) -> frozenset[Flow]:
    """Clear text that is over: since it was seen last, its host has begun to call the same service by tunnel, which `then` lets pass.

    Clear text names a host and no workload. So all of it must be older than the *first* tunnel: where one workload of a host
    comes by tunnel and another goes on in clear, which permissive lets out, the latest call tells nothing of the other.
    """
    began: dict[tuple[str, str], float] = {}
    for flow, count in counts.items():
        if flow.direction == "tunnel" and why_refused(then, flow) is None:
            pair = flow.peer, flow.destination
            began[pair] = min(began.get(pair, count.first_at), count.first_at)
    return frozenset(
        flow for flow, count in counts.items()
        if (host := _host_in_clear(then, flow)) and count.last_at < began.get((host.name, flow.destination), 0.0)
    )  # fmt: skip


def newly_bare(now: Snapshot, then: Snapshot, flows: Iterable[Flow]) -> list[Refused]:
    """Those that `now` sends in a tunnel and `then` in clear: the callee's agent may refuse that, by modes that are its own."""
    found = [flow for flow in flows if path_of(now, flow) == "tunnel" and path_of(then, flow) == "direct"]
    return [Refused(flow, PlaintextRefused(_bare(flow)), "") for flow in found]


def _bare(flow: Flow) -> str:
    where = f"refused there where {flow.peer} or its {flow.destination} is strict"
    return f"it would go in clear to {flow.peer}, which has an agent: {where}; switch that first"


def path_of(snapshot: Snapshot, flow: Flow) -> Path:
    """The way that this host would send it on."""
    try:
        via = decide_flow(snapshot, flow)
    except AgentError:
        return "none"
    return via.path if via else "none"


def why_refused(snapshot: Snapshot, flow: Flow) -> AgentError | None:
    """Why this snapshot would refuse such a connection; None: it passes, or nothing is registered there any more."""
    try:
        decide_flow(snapshot, flow)
    except BadDestination:
        return None
    except AgentError as error:
        return error
    return None


def decide_flow(snapshot: Snapshot, flow: Flow) -> Via | None:
    """How such a connection would go on now; None where nothing is registered at its address any more.

    Raises:
        AgentError: it would be refused.
    """
    dst = OriginalDst(parse_address(flow.address))
    match flow.direction:
        case "tunnel":
            return decide_stream(snapshot, flow.source, flow.destination, dst)
        case "plaintext":
            return decide_plaintext(snapshot, dst)
    to = find_destination(snapshot, dst, dst_is_local=flow.peer == snapshot.mesh.host)
    return decide_outbound(snapshot, speaker_of(snapshot, flow), to) if isinstance(to, ToService) else None


def speaker_of(snapshot: Snapshot, flow: Flow) -> str:
    """Who calls, as far as is known now: a unit that was nobody's then may have been given a service since."""
    return flow.source or service_of(snapshot, Workload(flow.unit, -1 if flow.uid is msgspec.UNSET else flow.uid))


def _hint(snapshot: Snapshot, flow: Flow) -> str:
    """Clear text from a host with an agent means that its agent lets it out: that host goes first."""
    host = _host_in_clear(snapshot, flow)
    if host is None or not host.tunnel_port:
        return ""
    return f"{host.name} has an agent and sends in clear: it observes, or the caller is unknown there; enforce there first"


def _host_in_clear(snapshot: Snapshot, flow: Flow) -> Host | None:
    """From which host clear text came; None for another flow, or a client that is no host of the mesh."""
    return snapshot.host_by_ip.get(flow.client) if flow.direction == "plaintext" else None
