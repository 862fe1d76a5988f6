"""Which instance takes the next request, as one worker sees them: who is busy, who failed, and what is left of a caller's bounds."""

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from nodeagent import limits
from nodeagent.decide.balance import Draw, Picker, Pool, members, picker_of, pool_of
from nodeagent.decide.breaker import Bounds, Gauge, bounds_of, call_rules, static_share
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.outlier import Ejection, Outliers, eject_rules
from nodeagent.errors import BreakerOpen
from nodeagent.model.policy.defaults import UpstreamConfig
from nodeagent.model.service import Instance, Service
from nodeagent.model.snapshot import Snapshot

Course = tuple[str, Target]
"""Who calls, and whom."""
Kind = Literal["requests", "connections"]
"""Of a bound that workers lease."""
_Plan = tuple[str, Target, tuple[Target, ...]]


class Pick(NamedTuple):
    """An instance that takes a request, until it is given back."""

    course: Course
    instance: Instance
    is_stand_in: bool = False
    is_panic: bool = False
    """Whether it failed just now, and nobody else is left."""

    @property
    def name(self) -> str:
        """Of the instance: ids are a host's own."""
        return name_of(self.instance)


class _Ready(NamedTuple):
    """A pool, as long as it is true."""

    of: tuple[object, ...]
    """What it was made from."""
    until: float
    """When an instance comes back."""
    pool: Pool
    picker: Picker


class Dispatch:
    """Owned by one worker. `now` is of a clock that never goes back."""

    def __init__(self, draw: Draw, *, workers: int = 1) -> None:
        """workers: that share the bounds of a caller."""
        self.changed: set[Course] = set()
        """Whose bounds are to be asked for, or told of: whoever leases empties it."""
        self._draw = draw
        self._shares = _Shares(workers)
        self._lanes: dict[Course, _Lane] = {}
        self._ready: dict[_Plan, _Ready] = {}
        self._epoch = 0
        """Moves with each ejection: pools are made anew."""

    def take(
        self, snapshot: Snapshot, source: str, leg: Leg, now: float, *, key: int | None = None, tried: Collection[str] = ()
    ) -> Pick:  # fmt: skip
        """The instance for a request of `source`; it counts as busy until `give_back`.

        key: the request's hash. tried: names of instances that failed it; others are preferred.

        Raises:
            NoInstance: nobody is left.
            BreakerOpen: the caller has as much open as it may, or as this worker has leased of that.
        """
        ready = self._pool(snapshot.services, source, leg, now)
        course = (source, ready.pool.target)
        lane = self._lane(snapshot.services, course)
        instance = self._choose(ready, lane, None if tried else key, tried)
        if not self._try_take(course, lane.requests):
            raise BreakerOpen(f"{source} has as many requests to {ready.pool.target} open as it may (MaxConcurrentRequests)", course)
        lane.begin(name_of(instance))
        return Pick(course, instance, ready.pool.is_stand_in, ready.pool.is_panic)

    def give_back(self, pick: Pick, now: float, *, is_failure: bool) -> Ejection | None:
        """The request is over; the ejection, where the instance failed once too often.

        is_failure: it gave no answer, or one of 500 and more.
        """
        lane = self._lanes[pick.course]
        if lane.end(pick.name):
            self.changed.add(pick.course)
        if not is_failure:
            lane.outliers.succeeded(pick.name)
            return None
        ejection = lane.outliers.failed(pick.name, now, among=lane.among, draw=self._draw())
        self._epoch += ejection is not None
        return ejection

    def hear(self, snapshot: Snapshot, course: Course, ejection: Ejection, now: float) -> None:
        """Another worker saw an instance fail."""
        lane = self._lane(snapshot.services, course)
        lane.outliers.take(ejection, now, among=lane.among)
        self._epoch += 1

    # --- bounds --------------------------------------------------------------------------------------------------------

    def gauge(self, snapshot: Snapshot, course: Course, kind: Kind = "requests") -> Gauge:
        """What a caller has open at once, for leases."""
        lane = self._lane(snapshot.services, course)
        return lane.requests if kind == "requests" else lane.connections

    def waiting(self, snapshot: Snapshot, course: Course) -> Gauge:
        """Its requests that wait for a connection. A worker's part of that is not leased: a queue moves on by itself."""
        return self._lane(snapshot.services, course).waiting

    def try_connect(self, snapshot: Snapshot, course: Course) -> bool:
        """Whether one more connection may be opened; it counts until `disconnect`."""
        return self._try_take(course, self._lane(snapshot.services, course).connections)

    def disconnect(self, course: Course) -> None:
        """One less."""
        lane = self._lanes.get(course)
        if lane and lane.connections.used and lane.connections.give_back():
            self.changed.add(course)
        self.rest(course, 0)

    def rest(self, course: Course, by: int) -> None:
        """So many more of the open connections rest."""
        lane = self._lanes.get(course)
        if lane is None:
            return
        gauge = lane.connections
        gauge.idle += by
        if gauge.idle == gauge.used:  # nobody waits here, whatever was refused before
            gauge.refused = 0
            if gauge.asked:
                self.changed.add(course)

    def courses(self) -> list[Course]:
        """Of which something is known."""
        return list(self._lanes)

    def lead(self, snapshot: Snapshot, *, is_led: bool) -> None:
        """Whether somebody leases parts of the bounds: then nothing is used before it was leased. Else each has its static share."""
        self._shares.is_led = is_led
        for course in self.courses():
            lane = self._lane(snapshot.services, course)
            for gauge in (lane.requests, lane.connections):
                gauge.serial = 0
                if not is_led:
                    gauge.begin_anew(gauge.limit, self._shares.static(gauge.limit))

    def go_alone(self, snapshot: Snapshot, course: Course) -> None:
        """Who leases says nothing: at least the static share of these."""
        lane = self._lane(snapshot.services, course)
        for gauge in (lane.requests, lane.connections):
            gauge.share = gauge.told = max(gauge.share, self._shares.static(gauge.limit))

    def _try_take(self, course: Course, gauge: Gauge) -> bool:
        is_taken = gauge.try_take()
        if self._shares.is_led and gauge.is_short:
            self.changed.add(course)
        return is_taken

    def active(self, course: Course, instance: Instance) -> int:
        """Requests of a caller that an instance has now."""
        lane = self._lanes.get(course)
        return lane.active.get(name_of(instance), 0) if lane else 0

    # --- pools ---------------------------------------------------------------------------------------------------------

    def _pool(self, services: Mapping[str, Service], source: str, leg: Leg, now: float) -> _Ready:
        plan = (source, leg.target, leg.stand_ins)
        of = (self._epoch, leg.balancer, *(services.get(target.service) for target in (leg.target, *leg.stand_ins)))
        known = self._ready.get(plan)
        if known and now < known.until and _same(known.of, of):
            return known
        return self._make(services, source, leg, now, of)

    def _make(self, services: Mapping[str, Service], source: str, leg: Leg, now: float, of: tuple[object, ...]) -> _Ready:
        lanes = {target: self._lane(services, (source, target)) for target in (leg.target, *leg.stand_ins)}
        pool = pool_of(services, leg, lambda target, instance: lanes[target].outliers.is_ejected(name_of(instance), now))
        until = min((at for lane in lanes.values() if (at := lane.outliers.next_return(now)) is not None), default=float("inf"))
        if len(self._ready) >= limits.DISPATCH_LANES:
            self._ready.clear()
        made = self._ready[source, leg.target, leg.stand_ins] = _Ready(of, until, pool, picker_of(leg.balancer, pool.instances))
        return made

    def _choose(self, ready: _Ready, lane: "_Lane", key: int | None, tried: Collection[str]) -> Instance:
        """One of the pool, rather none of those that were tried."""

        def active(instance: Instance) -> int:
            return lane.active.get(name_of(instance), 0)

        instance = ready.picker.pick(self._draw, active, key)
        if tried and name_of(instance) in tried:
            fresh = tuple(each for each in ready.pool.instances if name_of(each) not in tried)
            return fresh[int(self._draw() * len(fresh))] if fresh else instance
        return instance

    # --- lanes ---------------------------------------------------------------------------------------------------------

    def _lane(self, services: Mapping[str, Service], course: Course) -> "_Lane":
        """What is known of a course; made anew, with what is open, where the caller's entry says something else."""
        source, target = course
        caller, callee = services.get(source), services.get(target.service)
        said = caller.upstreams if caller else None
        lane = self._lanes.get(course)
        if lane is None:
            self._forget()
            lane = self._lanes[course] = _Lane(said, target.service, self._shares)
        elif lane.said is not said:
            lane.follow(said, target.service, self._shares)
        if lane.callee is not callee:
            lane.meet(callee, frozenset(map(name_of, members(services, target))))
        return lane

    def _forget(self) -> None:
        """Room for one more: courses on which nothing is open go, those that rest longest first."""
        if len(self._lanes) >= limits.DISPATCH_LANES:
            for course in [course for course, lane in self._lanes.items() if lane.is_idle][: limits.DISPATCH_LANES // 2]:
                del self._lanes[course]


class _Shares:
    """What a worker has of a bound before anything was leased."""

    def __init__(self, workers: int) -> None:
        self.is_led = False
        """Whether somebody leases."""
        self._workers = workers

    def static(self, limit: int) -> int:
        """While nobody does."""
        return static_share(limit, self._workers)

    def first(self, limit: int, *, is_said: bool) -> int:
        """Of a bound that an operator said nothing until it was leased; of our own at once."""
        return 0 if is_said and self.is_led else self.static(limit)


class _Lane:
    """One caller's requests to one target. Owned by Dispatch."""

    __slots__ = ("active", "among", "bounds", "callee", "connections", "outliers", "requests", "said", "waiting")

    def __init__(self, said: UpstreamConfig | None, service: str, shares: _Shares) -> None:
        self.active: dict[str, int] = {}
        self.among = 0
        self.bounds: Bounds | None = None
        self.callee: Service | None = None
        self.connections, self.requests, self.waiting = Gauge(0), Gauge(0), Gauge(0)
        self.outliers = Outliers(eject_rules(None))
        self.follow(said, service, shares)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is open."""
        return not (self.active or self.connections.used or self.waiting.used)

    def follow(self, said: UpstreamConfig | None, service: str, shares: _Shares) -> None:
        """What the caller's entry says now."""
        self.said = said
        rules = call_rules(said, service)
        self.outliers.rules = eject_rules(rules.health)
        bounds = bounds_of(rules.limits)
        if bounds == self.bounds:
            return
        self.bounds, is_said = bounds, rules.limits is not None
        for gauge, limit in ((self.connections, bounds.connections), (self.requests, bounds.requests)):
            if gauge.limit != limit:
                gauge.begin_anew(limit, shares.first(limit, is_said=is_said))
        self.waiting.begin_anew(bounds.pending, shares.static(bounds.pending))

    def meet(self, callee: Service | None, names: frozenset[str]) -> None:
        """The service as it is now, and who is of the target."""
        self.callee, self.among = callee, len(names)
        self.outliers.keep(names)

    def begin(self, name: str) -> None:
        """One more for an instance."""
        self.active[name] = self.active.get(name, 0) + 1

    def end(self, name: str) -> bool:
        """One less; whether that is to be told to who leases."""
        left = self.active.pop(name) - 1
        if left:
            self.active[name] = left
        return self.requests.give_back()


def name_of(instance: Instance) -> str:
    """Of an instance in the whole mesh."""
    return f"{instance.host}/{instance.id}"


def _same(before: tuple[object, ...], now: tuple[object, ...]) -> bool:
    return all(one is other or (isinstance(one, int) and one == other) for one, other in zip(before, now, strict=True))
