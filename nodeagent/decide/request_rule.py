"""Which rule decides the requests of a pair: the one intention, with its permissions."""

from dataclasses import dataclass

from nodeagent.decide.authorize import deciding_intention
from nodeagent.model.names import is_service_name
from nodeagent.model.policy.intentions import Permission
from nodeagent.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class RequestRule:
    """What decides each request of one pair, under one snapshot."""

    source: str
    destination: str
    permissions: tuple[Permission, ...]
    """In order: the first that matches decides. One without HTTP matches every request. Methods are in capitals."""
    is_allowed_otherwise: bool
    """What is done with a request that none of them matches."""
    by: str
    """The intention that it is of, or why it is a deny."""


def rule_of(snapshot: Snapshot, source: str, destination: str) -> RequestRule:
    """The rule for requests of `source` (empty: unidentified, whom none allows) to `destination`.

    Whoever asks often may keep it as long as `snapshot.wildcards` and the destination's `Service` are the same objects.
    """
    if not is_service_name(source):
        return RequestRule(source, destination, (), is_allowed_otherwise=False, by="an unidentified workload")
    decider = deciding_intention(snapshot, source, destination)
    if decider is None:
        return RequestRule(source, destination, (), is_allowed_otherwise=False, by="default deny")
    return RequestRule(source, destination, decider.permissions, decider.action == "allow", str(decider))
