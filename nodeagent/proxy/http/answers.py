"""What the agent answers by itself: a status for each reason, and a body that names the request and nothing else."""

from nodeagent.errors import AgentError, Reason

_STATUS: dict[Reason, int] = {
    Reason.DENIED: 403, Reason.POLICY_CHANGED: 403, Reason.UNIDENTIFIED: 403, Reason.PLAINTEXT_REFUSED: 403, Reason.NO_PEER: 403,
    Reason.REVOKED: 403, Reason.UNREGISTERED: 404, Reason.BAD_DESTINATION: 404, Reason.BAD_MESSAGE: 400, Reason.REQUEST_TIMEOUT: 408,
    Reason.RESET_BY_UPSTREAM: 502, Reason.PEER_LOST: 502, Reason.UPSTREAM_PROTOCOL: 502, Reason.UPSTREAM_TIMEOUT: 504,
    Reason.LOOP: 508, Reason.INTERNAL: 500,
}  # fmt: skip
_ELSE = 503  # what may be well in a moment: no way there, no certificate, a limit


def status_of(error: AgentError) -> int:
    """The status that tells a client of this refusal, or failure."""
    said: int | None = getattr(error, "status", None)
    return said or _STATUS.get(error.reason, _ELSE)


def body_of(request_id: bytes) -> bytes:
    """For a person to give to whoever runs the mesh: its records have the rest."""
    return b"request " + request_id + b"\n"
