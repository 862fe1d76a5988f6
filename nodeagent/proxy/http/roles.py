"""What the agent is to a request: its caller's, which names it and finds the way, or its callee's, which lets it in."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from certs.spiffe import service_id
from nodeagent.decide.headers import NO_EDITS, Caller, Edits, Ids, edited, for_agent, for_application, read_told
from nodeagent.decide.match import RequestView
from nodeagent.decide.outbound import Via
from nodeagent.decide.path import normalize
from nodeagent.decide.requests import authorize_request
from nodeagent.decide.retry import Failure, backoff_s, may_resend
from nodeagent.decide.routed import is_routed
from nodeagent.errors import AgentError, BreakerOpen, UpstreamTimeout
from nodeagent.model.address import Address
from nodeagent.model.message import Headers, RequestHead, ResponseHead
from nodeagent.model.outcome import Direction
from nodeagent.model.snapshot import Mesh, Snapshot
from nodeagent.proxy.end import End
from nodeagent.proxy.http.exchange import Asked, Exchange, Plan
from nodeagent.proxy.http.origin import Origin
from nodeagent.proxy.http.routing import Trip
from nodeagent.proxy.http.rules import Rule
from nodeagent.proxy.live import Live
from nodeagent.proxy.upstream import family_of
from nodeagent.wire.http1.parser import CodecName

_ID_BITS, _ID_DIGITS = 320, 80


class Pair(NamedTuple):
    """Who calls whom, and from where."""

    source: str
    destination: str
    client_ip: str
    """Of the host that calls."""


def ask(head: RequestHead) -> Asked:
    """What the request says of itself, and names for where it says nothing."""
    told = read_told(head.headers)
    digits = b"%0*x" % (_ID_DIGITS, random.getrandbits(_ID_BITS))
    ids = Ids(b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32])), digits[32:64], digits[64:])
    return Asked(told, ids, told.request_id or ids.request)


class Entrance:
    """What is asked before a request reaches an application of this host. Owned by the role of one connection."""

    def __init__(self, live: Live, pair: Pair) -> None:
        self._live = live
        self._pair = pair
        self._ip = pair.client_ip.encode()
        self._mesh: Mesh | None = None
        self._caller = Caller(b"", b"")

    def admit(self, snapshot: Snapshot, head: RequestHead, asked: Asked, edits: Edits = NO_EDITS) -> Plan:
        """The request as the application gets it; no connection is named yet. edits: of its route, on the same host.

        Raises:
            Denied, AmbiguousPath, Loop: it does not.
        """
        head.headers = edited(for_application(asked.told, asked.ids, self._name(snapshot.mesh), self._ip), edits)
        target, permit = self.permit(snapshot, head)
        return Plan(target, head.headers, permit=permit, generation=snapshot.generation, entrance=self)

    def permit(self, snapshot: Snapshot, head: RequestHead) -> tuple[bytes, str]:
        """The target as it goes on, and who allows it; nobody, where the mode wants no such word. head: as the application gets it.

        Raises:
            Denied, AmbiguousPath: it is not let in.
        """
        rule = self._rule(snapshot)
        if not rule.is_enforced:
            return head.target, ""
        target = normalize(head.target, rule.paths) if rule.rule.reads_path else head.target
        return target, authorize_request(rule.rule, RequestView(head, target)).by

    def lasting(self, head: RequestHead) -> Callable[[Snapshot], None]:
        """What asks once more for each snapshot, where its rule is another one."""
        seen: Rule | None = None

        def ask(snapshot: Snapshot) -> None:
            nonlocal seen
            rule = self._rule(snapshot)
            if rule is not seen:
                self.permit(snapshot, head)
                seen = rule

        return ask

    def _rule(self, snapshot: Snapshot) -> Rule:
        return self._live.http.rules.rule(snapshot, self._pair.source, self._pair.destination)

    def _name(self, mesh: Mesh) -> Caller:
        """The two services as the application is told of them."""
        if mesh is not self._mesh:
            own, caller = (str(service_id(mesh.trust_domain, mesh.datacenter, name)) for name in (self._pair.destination, self._pair.source))
            self._mesh, self._caller = mesh, Caller(own.encode(), caller.encode())
        return self._caller


@dataclass(slots=True)
class Ways:
    """How the caller's agent goes on. Made for one connection."""

    decide: Callable[[Snapshot], Via]
    """The way of a new connection to where this one goes, by the snapshot of now."""
    reach: Callable[[Via], Awaitable[End]]


class CallerRole:
    """The agent of the host on which the client is; on one host with the callee, that of both."""

    direction: Direction = "outbound"

    def __init__(self, live: Live, pair: Pair, via: Via, ways: Ways) -> None:
        self.source, self.destination = pair.source, pair.destination
        self._live = live
        self._client_ip, self._ip = pair.client_ip, pair.client_ip.encode()
        self._family = family_of(via.address.ip)
        self._via = via
        self._ways = ways
        self._entrances = {pair.destination: Entrance(live, pair)}
        self._seen: Snapshot | None = None
        self._codec = codec_of(live, pair.destination)

    def ask(self, head: RequestHead) -> Asked:
        """What the request says of itself."""
        return ask(head)

    def plan(self, head: RequestHead, asked: Asked) -> Plan:
        """To the callee's agent, which decides; or to an application of this host."""
        snapshot, live = self._live.snapshot, self._live
        if not is_routed(snapshot, self.source, self.destination):
            return self._planned(snapshot, self._way(snapshot), head, asked)
        head.headers = for_agent(asked.told, asked.ids)
        trip = live.http.router.begin(snapshot, self.destination, head, self._ip)
        return self._aimed(trip, head, asked)

    def again(self, head: RequestHead, asked: Asked, plan: Plan) -> Plan:
        """By the leg that was drawn at first, and the snapshot of now."""
        return self._aimed(plan.trip, head, asked) if plan.trip else plan

    def _aimed(self, trip: Trip, head: RequestHead, asked: Asked) -> Plan:
        """With an instance, which has it from here on."""
        snapshot, router, sharing = self._live.snapshot, self._live.http.router, self._live.http.sharing
        try:
            via = router.aim(snapshot, self.source, trip, family=self._family)
        except BreakerOpen as error:
            if not trip.may_wait(time.monotonic()) or not sharing.may_wait(error.course):
                raise
            return Plan(head.target, head.headers, trip=trip, route=trip.leg.route, waits_for=error.course)
        finally:
            sharing.note()
        try:
            head.target = trip.target
            plan = self._planned(snapshot, via, head, asked, trip.leg.request_edits)
        except BaseException:
            router.end(trip, is_failure=False)
            raise
        plan.trip, plan.route, plan.destination = trip, trip.leg.route, via.service
        return plan

    def _planned(self, snapshot: Snapshot, via: Via, head: RequestHead, asked: Asked, edits: Edits = NO_EDITS) -> Plan:
        if via.path == "local" and via.permit:
            entrance = self._entrances.get(via.service) or self._new_entrance(via.service)
            plan = entrance.admit(snapshot, head, asked, edits)
        else:
            plan = Plan(head.target, edited(for_agent(asked.told, asked.ids), edits), generation=snapshot.generation)
        plan.via, plan.instance = via, str(via.address)
        plan.key = (self.source, via.service, via.address, via.peer.name if via.peer else self._client_ip)
        return plan

    def _new_entrance(self, service: str) -> Entrance:
        """Of another service of this host; few, as routes lead to few."""
        made = self._entrances[service] = Entrance(self._live, Pair(self.source, service, self._client_ip))
        return made

    def retry_s(self, exchange: Exchange, failure: Failure | None, *, started: bool | None) -> float | None:
        """Where its route has it, nothing can be done twice, all of it is still here, and the service can bear it."""
        trip = exchange.plan.trip if exchange.plan else None
        if trip is None or exchange.is_said or exchange.kept is None or exchange.retried >= trip.leg.retries.tries_more:
            return None
        retries, is_sent = trip.leg.retries, failure != "connect-failure"
        is_wanted = retries.is_for_failure(failure) if failure else retries.is_for_status(exchange.status)
        if not is_wanted or not may_resend(exchange.request.method, is_sent=is_sent, upstream_started=started):
            return None
        if exchange.kept_bytes > trip.budget.body_bytes or not trip.budget.try_take(time.monotonic()):
            return None
        return backoff_s(exchange.retried + 1, random.random())  # noqa: S311 - no secret

    async def turn(self, plan: Plan) -> None:
        """Of the requests that its caller may have open."""
        if plan.waits_for:
            await self._live.http.sharing.turn(plan.waits_for)

    def done(self, plan: Plan, *, is_failure: bool) -> None:
        """The instance is free again."""
        trip, http = plan.trip, self._live.http
        if trip is None or trip.pick is None:
            return
        course = trip.pick.course
        ejection = http.router.end(trip, is_failure=is_failure)
        http.sharing.freed(course)
        if ejection:
            http.sharing.ejected(course, ejection)
            http.requests.count_ejection((self.direction, self.source, plan.destination, plan.route))

    def _way(self, snapshot: Snapshot) -> Via:
        """As a new connection would go. Where it would go nowhere that a permit leads to, as this one went: never in clear.

        Raises:
            AgentError: it would be refused.
        """
        if snapshot is not self._seen:
            via = self._ways.decide(snapshot)
            if via.service == self.destination and via.permit:
                self._via = via
            self._seen = snapshot
        return self._via

    def take(self, plan: Plan) -> Origin | None:
        """One that rests in the worker's pool."""
        return self._live.http.connections.take(plan.key)

    async def open(self, plan: Plan) -> Origin:
        """A stream to the callee's agent, or a connection to the application; of those that a caller may have."""
        trip = plan.trip
        if trip is None or trip.pick is None:
            return await self._open(plan)
        return await self._live.http.connections.get(trip.pick.course, plan.key, lambda: self._open(plan))

    async def _open(self, plan: Plan) -> Origin:
        assert plan.via
        seconds = plan.trip.leg.connect_timeout_s if plan.trip else 0.0
        try:
            async with asyncio.timeout(seconds or None):
                return Origin(await self._ways.reach(plan.via), self._codec)
        except TimeoutError:
            raise UpstreamTimeout(f"{plan.instance} was not reached within {seconds:g} s (ConnectTimeout)") from None

    def keep(self, plan: Plan, origin: Origin) -> None:
        """For requests of the same service, on whatever connection they come."""
        self._live.http.connections.keep(plan.key, origin)

    def answer_headers(self, plan: Plan, head: ResponseHead) -> Headers:
        """As they came, but for what the route says, and cookies that lead to the same instance."""
        if plan.trip is None:
            return head.headers
        headers = edited(head.headers, plan.trip.leg.response_edits)
        return [*headers, *((b"Set-Cookie", cookie) for cookie in plan.trip.key.cookies)]

    def leave(self) -> None:
        """What it used rests in the pool, or is dropped by who used it."""


class CalleeRole:
    """The agent of the host on which the application is. One connection to it for each stream of a tunnel."""

    direction: Direction = "tunnel"

    def __init__(self, live: Live, pair: Pair, address: Address, first: End, reach: Callable[[], Awaitable[End]]) -> None:
        self.source, self.destination = pair.source, pair.destination
        self._live = live
        self._address = address
        self._reach = reach
        self._entrance = Entrance(live, pair)
        self._codec = codec_of(live, pair.destination)
        self._own: Origin | None = Origin(first, self._codec)
        self._has_left = False
        self.check_caller: Callable[[], None] = _nothing
        """Raises where nothing new is taken from the caller any more: its connection lasts longer than its word."""
        self.on_unreached: Callable[[AgentError], None] = _nothing
        """Told when the application is not there for a request: whoever sent it is to know that it did not begin."""

    def ask(self, head: RequestHead) -> Asked:
        """What the caller's agent says of it."""
        return ask(head)

    def plan(self, head: RequestHead, asked: Asked) -> Plan:
        """This is where policy is enforced."""
        self.check_caller()
        plan = self._entrance.admit(self._live.snapshot, head, asked)
        plan.instance = str(self._address)
        return plan

    def again(self, head: RequestHead, asked: Asked, plan: Plan) -> Plan:
        """There is one instance here."""
        del head, asked
        return plan

    def retry_s(self, exchange: Exchange, failure: Failure | None, *, started: bool | None) -> float | None:
        """The caller's agent decides about that."""
        del exchange, failure, started
        return None

    async def turn(self, plan: Plan) -> None:
        """Its plans wait for nothing."""

    def done(self, plan: Plan, *, is_failure: bool) -> None:
        """Nobody else has turns."""

    def take(self, plan: Plan) -> Origin | None:
        """The connection of this stream, unless the application has closed it."""
        del plan
        origin, self._own = self._own, None
        if origin and not origin.is_ready:
            origin.leave()
            return None
        return origin

    async def open(self, plan: Plan) -> Origin:
        """Another one."""
        del plan
        try:
            return Origin(await self._reach(), self._codec)
        except AgentError as error:
            self.on_unreached(error)
            raise

    def keep(self, plan: Plan, origin: Origin) -> None:
        """For the next request of this stream."""
        del plan
        if self._has_left or self._own:  # one that was opened for a request which did not wait for it may come second
            origin.leave()
        else:
            self._own = origin

    def answer_headers(self, plan: Plan, head: ResponseHead) -> Headers:
        """As they came."""
        del plan
        return head.headers

    def leave(self) -> None:
        """No request will come any more."""
        self._has_left = True
        origin, self._own = self._own, None
        if origin:
            origin.leave()


def _nothing(*_: object) -> None:
    """Nobody who called was asked for a certificate, or is to be told."""


def codec_of(live: Live, service: str) -> CodecName:
    """What reads the messages of a service on this host."""
    table = live.config.service.get(service)
    return (table.codec if table else None) or live.config.traffic.codec
