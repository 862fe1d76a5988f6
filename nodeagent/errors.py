"""What can go wrong: closed sets of reasons, and the exceptions that carry them."""

from enum import StrEnum
from typing import Any


class Side(StrEnum):
    """Whose fault an ended connection was."""

    NONE = "none"
    """Nobody's: it ended as connections do."""
    DOWNSTREAM = "downstream"
    """The side that opened the connection."""
    UPSTREAM = "upstream"
    """The side that was called: the application or the agent in front of it."""
    MESH = "mesh"
    """Policy, identity or configuration said no."""
    AGENT = "agent"
    """This agent: a limit, a drain or a defect."""


class Reason(StrEnum):
    """How a connection ended. A closed set: it is also a metric label and the log's `reason`."""

    OK = "ok"
    RESET_BY_DOWNSTREAM = "reset_by_downstream"
    RESET_BY_UPSTREAM = "reset_by_upstream"
    DENIED = "denied"
    POLICY_CHANGED = "policy_changed"
    UNIDENTIFIED = "unidentified"
    PLAINTEXT_REFUSED = "plaintext_refused"
    NO_PEER = "no_peer"
    UNREGISTERED = "unregistered"
    NO_SNAPSHOT = "no_snapshot"
    NO_SVID = "no_svid"
    BAD_DESTINATION = "bad_destination"
    PEER_UNREACHABLE = "peer_unreachable"
    PEER_IDENTITY = "peer_identity"
    REVOKED = "revoked"
    PEER_LOST = "peer_lost"
    PEER_PROTOCOL = "peer_protocol"
    BAD_MESSAGE = "bad_message"
    PEER_REFUSED = "peer_refused"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    REQUEST_TIMEOUT = "request_timeout"
    NO_ROUTE = "no_route"
    NO_INSTANCE = "no_instance"
    LOOP = "loop"
    LIMIT = "limit"
    SHED = "shed"
    DRAINED = "drained"
    INTERNAL = "internal"


class AgentError(Exception):
    """A refusal or failure with its two facts: what, and whose fault."""

    reason = Reason.INTERNAL
    side = Side.AGENT


def blame_caller(error: AgentError) -> AgentError:
    """The same error of a peer that calls: what is upstream of others is downstream here."""
    if error.side is Side.UPSTREAM:
        error.side = Side.DOWNSTREAM
    return error


class Denied(AgentError):
    """An intention, or the default, said no."""

    reason, side = Reason.DENIED, Side.MESH


class PolicyChanged(AgentError):
    """A change of policy ended a connection that was open."""

    reason, side = Reason.POLICY_CHANGED, Side.MESH


class Unidentified(AgentError):
    """The kernel could not name the caller's unit, or no service is configured for it."""

    reason, side = Reason.UNIDENTIFIED, Side.MESH


class PlaintextRefused(AgentError):
    """Plaintext arrived at a service that takes tunnels only."""

    reason, side = Reason.PLAINTEXT_REFUSED, Side.MESH


class NoPeer(AgentError):
    """The destination's host runs no agent, and plaintext to it is not allowed."""

    reason, side = Reason.NO_PEER, Side.MESH


class UnregisteredPort(AgentError):
    """No service is registered at that address and port, and such ports are refused here."""

    reason, side = Reason.UNREGISTERED, Side.MESH


class NoSnapshot(AgentError):
    """This agent has not heard from the catalog yet and has no saved snapshot."""

    reason, side = Reason.NO_SNAPSHOT, Side.AGENT


class NoSvid(AgentError):
    """This agent holds no valid certificate for the service that is to speak or be spoken to."""

    reason, side = Reason.NO_SVID, Side.AGENT


class BadDestination(AgentError):
    """A tunnel asked for something that is not a registered service of this host."""

    reason, side = Reason.BAD_DESTINATION, Side.DOWNSTREAM


class PeerUnreachable(AgentError):
    """No tunnel to the peer host could be opened."""

    reason, side = Reason.PEER_UNREACHABLE, Side.UPSTREAM


class PeerIdentity(AgentError):
    """The peer proved another identity than the one that was asked for, or none."""

    reason, side = Reason.PEER_IDENTITY, Side.UPSTREAM


class Revoked(AgentError):
    """A certificate that was good is relied on no more: its token was revoked, or its root removed."""

    reason, side = Reason.REVOKED, Side.MESH


class PeerLost(AgentError):
    """The tunnel broke while a connection was in it."""

    reason, side = Reason.PEER_LOST, Side.UPSTREAM


class PeerProtocol(AgentError):
    """The peer had proved who it is, and broke HTTP/2 in its tunnel, or says that we did."""

    reason, side = Reason.PEER_PROTOCOL, Side.UPSTREAM


class PeerRefused(AgentError):
    """The peer's agent answered with a status that is not 200, 401 or 503."""

    reason, side = Reason.PEER_REFUSED, Side.UPSTREAM


class UpstreamRefused(AgentError):
    """The application refused the connection."""

    reason, side = Reason.UPSTREAM_REFUSED, Side.UPSTREAM


class UpstreamReset(AgentError):
    """The application, or its agent, ended the connection before we had heard that it was open."""

    reason, side = Reason.RESET_BY_UPSTREAM, Side.UPSTREAM


class UpstreamTimeout(AgentError):
    """The application or host did not answer in time."""

    reason, side = Reason.UPSTREAM_TIMEOUT, Side.UPSTREAM


class UpstreamProtocol(AgentError):
    """The application's answer is no HTTP, or not one to what it was asked."""

    reason, side = Reason.UPSTREAM_PROTOCOL, Side.UPSTREAM


class RequestTimeout(AgentError):
    """The client did not send its request in time."""

    reason, side = Reason.REQUEST_TIMEOUT, Side.DOWNSTREAM


class AmbiguousPath(AgentError):
    """A path that applications read in more than one way, where a rule has to read it."""

    reason, side = Reason.BAD_MESSAGE, Side.DOWNSTREAM


class NoRoute(AgentError):
    """What was said about the routing of a service leads nowhere."""

    reason, side = Reason.NO_ROUTE, Side.MESH


class NoInstance(AgentError):
    """No instance can take the request, of the service or of those that stand in for it."""

    reason, side = Reason.NO_INSTANCE, Side.UPSTREAM


class Loop(AgentError):
    """The connection goes to an agent's own port, or went through too many agents."""

    reason, side = Reason.LOOP, Side.MESH


class Drained(AgentError):
    """The worker that carried it was replaced, and its time to finish was up."""

    reason, side = Reason.DRAINED, Side.AGENT


class LimitReached(AgentError):
    """A limit of `limits.py` was reached."""

    reason, side = Reason.LIMIT, Side.AGENT


class BreakerOpen(AgentError):
    """A caller has as much open towards a service as its operator allows it."""

    reason, side = Reason.SHED, Side.MESH

    def __init__(self, why: str, course: Any = None) -> None:
        """course: who calls whom, of `decide/dispatch`."""
        super().__init__(why)
        self.course = course


class ConfigError(Exception):
    """A setting is missing, unknown or out of range; the message names file, key and cure."""


class ConfigMissing(ConfigError):
    """There is no configuration file where it should be."""


class CatalogError(Exception):
    """The catalog answered something that cannot be used; the message says what and where."""


class CatalogUnreachable(CatalogError):
    """The catalog is not there."""


class CatalogTimeout(CatalogError):
    """The catalog did not answer in time."""


class NotInCatalog(CatalogError):
    """The catalog has no such thing."""


class PolicyError(Exception):
    """Entries that cannot be taken; each of `faults` is a sentence that begins with the place."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class FrameError(Exception):
    """A message between our own processes is not one: the channel is closed."""
