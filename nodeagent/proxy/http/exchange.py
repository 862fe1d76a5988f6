"""One request and its answer: how far both are, and what is known of them when it is over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from nodeagent import limits
from nodeagent.decide.dispatch import Course
from nodeagent.decide.headers import Ids, Told
from nodeagent.decide.outbound import Via
from nodeagent.decide.retry import Failure, may_resend
from nodeagent.errors import AgentError, Reason, Side
from nodeagent.model.message import CHUNKED, UNTIL_CLOSE, Headers, RequestHead, ResponseHead
from nodeagent.model.outcome import Direction, RequestRow
from nodeagent.model.snapshot import Snapshot
from nodeagent.proxy.end import Watcher
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.routing import Trip
from nodeagent.proxy.live import Live

_SERVER_ERROR = 500


class Asked(NamedTuple):
    """What a request says of itself, and its names."""

    told: Told
    ids: Ids
    request_id: bytes


class Asking(Protocol):
    """Who lets requests in."""

    def lasting(self, head: RequestHead) -> Callable[[Snapshot], None]:
        """What asks once more by a newer snapshot, and raises where the request would not be let in."""


@dataclass(slots=True)
class Plan:
    """What was decided about a request; what remains is to do it."""

    target: bytes
    """As it is forwarded."""
    headers: Headers
    key: object = None
    """Connections to instances are shared by requests with the same one."""
    instance: str = ""
    """Address that is dialled, for rows."""
    destination: str = ""
    """The service that takes it, where that is another than was dialled."""
    route: str = ""
    permit: str = ""
    generation: int = 0
    via: Via | None = None
    """How its instance is reached."""
    trip: Trip | None = None
    """Of a request to a routed service."""
    entrance: Asking | None = None
    """Where it was let in by this agent."""
    waits_for: Course | None = None
    """Whose bound is to have room before an instance takes it."""


class Role(Protocol):
    """What differs by the side of the mesh on which the agent is: how requests are decided, and where they go."""

    source: str
    destination: str
    direction: Direction

    def ask(self, head: RequestHead) -> Asked:
        """What the request says of itself; of one that was not understood, too."""

    def plan(self, head: RequestHead, asked: Asked) -> Plan:
        """What becomes of the request, by the snapshot of this moment.

        Raises:
            AgentError: it is refused.
        """

    def again(self, head: RequestHead, asked: Asked, plan: Plan) -> Plan:
        """Another try of the same request: rather another instance.

        Raises:
            AgentError: there is none for it.
        """

    def retry_s(self, exchange: "Exchange", failure: Failure | None, *, started: bool | None) -> float | None:
        """After how long to try again, as its route has it; None: not at all. failure: None: it was answered, with its status."""

    async def turn(self, plan: Plan) -> None:
        """Returns when what a plan waits for may be there."""

    def done(self, plan: Plan, *, is_failure: bool) -> None:
        """Its instance is not busy with it any more."""

    def take(self, plan: Plan) -> Origin | None:
        """A connection on which it may go, if one rests."""

    async def open(self, plan: Plan) -> Origin:
        """A new one.

        Raises:
            AgentError: there is none.
        """

    def keep(self, plan: Plan, origin: Origin) -> None:
        """The exchange is over, and another may follow on that connection."""

    def answer_headers(self, plan: Plan, head: ResponseHead) -> Headers:
        """As they go on to the client."""

    def leave(self) -> None:
        """The client is gone."""


@dataclass(slots=True)
class Exchange:
    """Owned by the engine of its connection."""

    request: RequestHead
    asked: Asked
    began_at: float
    """By the loop's clock."""
    plan: Plan | None = None
    origin: Origin | None = None
    is_read: bool = False
    """Whether the request is complete."""
    is_said: bool = False
    """Whether the answer's head has gone to the client."""
    is_answered: bool = False
    """Whether the answer is complete."""
    must_close: bool = False
    """Whether the client's connection ends with it."""
    status: int = 0
    answer_length: int = 0
    """As the client is told."""
    origin_lasts: bool = False
    """Whether the instance takes another request on its connection."""
    kept: list[bytes] | None = field(default_factory=list)
    """Pieces of the request's body, for a connection that is not there yet, or for another try; None: they are gone."""
    kept_bytes: int = 0
    sent: int = 0
    received: int = 0
    unread: int = 0
    """Bytes of the body that nobody wanted."""
    tries: int = 0
    """Connections that it was given."""
    retried: int = 0
    """Of them those that its route asked for."""
    deadline: float = inf
    """When all of it is to be over, and when this try is to be answered, by the loop's clock."""
    try_until: float = inf
    reason: Reason = Reason.OK
    side: Side = Side.NONE
    error: str = ""

    @property
    def retries(self) -> int:
        """How often it was sent once more."""
        return max(self.tries - 1, 0)

    @property
    def try_number(self) -> tuple[int, int]:
        """Which try this is; another one as soon as that is given up, before the next has its connection."""
        return self.tries, self.retried

    @property
    def idle_s(self) -> float:
        """How long nothing may go on."""
        trip = self.plan.trip if self.plan else None
        return (trip.leg.idle_timeout_s if trip else 0.0) or limits.HTTP_IDLE_S

    @property
    def is_homeless(self) -> bool:
        """Whether there is a piece of its body, and no connection yet for it to go."""
        return self.origin is None and not self.is_answered and self.kept_bytes > 0

    def may_again(self, origin: Origin) -> bool:
        """Whether it may be sent once more, when that was lost: nothing of an answer has come, and all of it is still here."""
        if self.is_said or self.kept is None or self.tries - self.retried >= limits.HTTP_TRIES or origin.has_answered:
            return False
        if not origin.is_used and origin.started_when_lost is not False:
            return False  # a fresh connection was not closed for having rested
        return may_resend(self.request.method, is_sent=True, upstream_started=origin.started_when_lost)

    def fail(self, error: AgentError) -> None:
        """Why it went wrong; the first to say so is believed."""
        if self.reason is Reason.OK:
            self.reason, self.side, self.error = error.reason, error.side, str(error)[: limits.ERROR_CHARS]

    @property
    def has_failed(self) -> bool:
        """Whether its instance answered that it cannot."""
        return self.status >= _SERVER_ERROR

    @property
    def due(self) -> float:
        """When something of it is too late, by the loop's clock."""
        if self.is_answered:
            return inf
        return self.deadline if self.is_said else min(self.deadline, self.try_until)

    def waits_in(self, tried: tuple[int, int]) -> bool:
        """Whether it is that try that waits for a connection."""
        return not self.is_answered and self.origin is None and self.try_number == tried

    def drop_origin(self) -> None:
        """Nothing of that instance is waited for any more: it sees a reset."""
        origin, self.origin = self.origin, None
        if origin:
            origin.drop()

    def pass_end(self) -> None:
        """Its client sends no more, or is gone, which looks the same: the instance hears it as without an agent, and may answer all the same."""
        if self.origin and self.is_read and not self.is_answered:
            self.kept = None  # nothing is done once more for who may be gone
            self.origin.end_requests()

    def pass_on(self, piece: bytes) -> None:
        """One more piece of the body, to where it goes, and for another try."""
        if self.origin:
            self.origin.write(piece)
        self.keep(piece)

    def keep(self, piece: bytes) -> None:
        """One more piece of the body, as it is written."""
        if self.kept is not None:
            self.kept.append(piece)
            self.kept_bytes += len(piece)
            self.forget()

    def forget(self) -> None:
        """What is too long for another try is kept for the first one alone."""
        if self.origin and self.kept_bytes > limits.HTTP_KEPT_BYTES:
            self.kept = None

    def frame_answer(self, head: ResponseHead, *, is_last: bool) -> None:
        """How the answer is framed for the client, and whether its connection ends with it."""
        request = self.request
        self.status, self.origin_lasts, self.answer_length = head.status, head.keep_alive, head.length
        if head.length == UNTIL_CLOSE and not request.is_http10:
            self.answer_length = CHUNKED
        if head.length == CHUNKED and request.is_http10:
            self.answer_length = UNTIL_CLOSE
        is_waiting = request.expects_continue and not self.is_read and not self.sent  # its body may come, or never
        self.must_close = not request.keep_alive or is_last or self.answer_length == UNTIL_CLOSE or is_waiting


def record(exchange: Exchange, role: Role, live: Live, relay: Watcher | None, now: float) -> None:
    """Counts it, and writes down what is to be told of it. now: by the loop's clock."""
    seconds, requests, plan = now - exchange.began_at, live.http.requests, exchange.plan
    way = (role.direction, role.source, (plan.destination if plan else "") or role.destination, plan.route if plan else "")
    is_shed = exchange.reason is Reason.SHED
    is_denied = exchange.reason is Reason.DENIED
    requests.count(way, exchange.status, seconds, retries=exchange.retries, is_denied=is_denied, is_shed=is_shed)
    if requests.wants(exchange.status, exchange.reason, exchange.side):
        row = row_of(exchange, role, connection=relay.name if relay else "", began_at=live.now() - seconds)
        row.milliseconds = round(seconds * 1000, 3)
        live.records.append_request(row)


def row_of(exchange: Exchange, role: Role, *, connection: str, began_at: float) -> RequestRow:
    """What is written down of it. began_at: Unix seconds."""
    request, plan = exchange.request, exchange.plan
    path = (plan.target if plan else request.target).partition(b"?")[0][: limits.REQUEST_PATH_BYTES]
    return RequestRow(
        id=exchange.asked.request_id.decode("ascii", "replace"), connection=connection, direction=role.direction,
        source=role.source, destination=(plan.destination if plan else "") or role.destination, began_at=began_at, milliseconds=0.0,
        route=plan.route if plan else "", instance=plan.instance if plan else "", permit=plan.permit if plan else "",
        generation=plan.generation if plan else 0, method=request.method[: limits.REQUEST_METHOD_BYTES].decode("ascii", "replace"),
        path=path.decode("ascii", "replace"), status=exchange.status, sent=exchange.sent, received=exchange.received,
        retries=exchange.retries, reason=exchange.reason, side=exchange.side, error=exchange.error,
    )  # fmt: skip
