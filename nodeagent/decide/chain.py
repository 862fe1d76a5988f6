"""Where a request goes: router, splitter and resolver of a service, made into a list of ways once for each snapshot.

The order is Consul's. A router's routes are asked in turn, and the service itself is the last. Splits are drawn by weight, those of a
split's own splitter within it. A resolver says which instances are meant, and who stands in for them. What leads nowhere is refused:
never is another service called than the one that was said.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

from nodeagent import limits
from nodeagent.decide.headers import NO_EDITS, Edits, edited, edits_of
from nodeagent.decide.match import EVERY_REQUEST, Matcher, RequestView, matcher_of
from nodeagent.decide.path import Rewrite
from nodeagent.decide.retry import NO_RETRIES, RetryPolicy, retry_policy
from nodeagent.errors import AmbiguousPath, NoRoute
from nodeagent.model.intention import ANY
from nodeagent.model.message import Headers
from nodeagent.model.patterns import BadPattern
from nodeagent.model.policy.resolving import LoadBalancer, ServiceResolver
from nodeagent.model.policy.routing import Route, RouteDestination, Split
from nodeagent.model.policy.values import HeaderEdits
from nodeagent.model.traffic import Traffic


class Routed(Protocol):
    """What a chain asks of a service."""

    @property
    def protocol(self) -> str:
        """What it speaks."""
    @property
    def traffic(self) -> Traffic | None:
        """What was said about its requests."""


class Target(NamedTuple):
    """Instances of a service: all of them, or those of a subset."""

    service: str
    subset: str = ""

    def __str__(self) -> str:
        return f"{self.service} subset {self.subset}" if self.subset else self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One way of a request, and how it is treated on it."""

    route: str
    """Which route: `Routes[1]`, or `default`; also a label of metrics."""
    target: Target
    stand_ins: tuple[Target, ...] = ()
    """In their order, for when no instance of the target is left."""
    request_edits: Edits = NO_EDITS
    response_edits: Edits = NO_EDITS
    rewrite: Rewrite | None = None
    request_timeout_s: float = 0.0
    """Of the whole request, retries included; 0: none."""
    try_timeout_s: float = 0.0
    """Of one try until its answer begins: the resolver's RequestTimeout; 0: none."""
    idle_timeout_s: float = 0.0
    """0: the agent's own."""
    connect_timeout_s: float = 0.0
    """0: the agent's own."""
    retries: RetryPolicy = NO_RETRIES
    balancer: LoadBalancer | None = None
    refusal: str = ""
    """Why it leads nowhere."""
    steps: tuple[str, ...] = ()
    """How it came about, for explanations."""

    def onward(self, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
        """Target and fields of a request as they go on. target: a normal one, where there is a rewrite.

        Raises:
            AmbiguousPath: with its other beginning the path leads above the root.
        """
        return self.rewrite(target) if self.rewrite else target, edited(headers, self.request_edits)


@dataclass(frozen=True, slots=True)
class Way:
    """A route: which requests take it, and its legs with their shares."""

    matcher: Matcher
    label: str
    says: str
    """What it matches, for explanations."""
    legs: tuple[Leg, ...]
    ends: tuple[float, ...]
    """Where the share of each leg ends, from 0 to 1."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each leg, from 0 to 1."""
        return tuple(end - before for before, end in zip((0.0, *self.ends), self.ends, strict=False))


@dataclass(frozen=True, slots=True)
class Chain:
    """All ways of the requests to a service."""

    service: str
    ways: tuple[Way, ...]
    """In their order; the last one is for every request."""
    reads_path: bool
    """Whether paths must be normal before it is asked."""

    def way_of(self, view: RequestView) -> Way:
        """The route that a request takes."""
        return next(way for way in self.ways if way.matcher.matches(view))

    def pick(self, view: RequestView, draw: float) -> Leg:
        """The leg of a request. draw: by chance, in [0, 1).

        Raises:
            NoRoute: it leads nowhere; says why.
        """
        way = self.way_of(view)
        leg = way.legs[0] if len(way.legs) == 1 else way.legs[min(bisect_right(way.ends, draw), len(way.legs) - 1)]
        if leg.refusal:
            raise NoRoute(leg.refusal)
        return leg


def chain_of(services: Mapping[str, Routed], name: str, *, datacenter: str = "") -> Chain:
    """The chain of a service. datacenter: this one; others cannot be called."""
    ways = tuple(_Compiler(services, name, datacenter).ways())
    reads_path = any(way.matcher.reads_path or leg.rewrite for way in ways for leg in way.legs)
    return Chain(name, ways, reads_path)


class _Share(NamedTuple):
    """A leg in the making."""

    weight: float
    leg: Leg
    edits: tuple[tuple[HeaderEdits | None, HeaderEdits | None], ...]
    """Of requests and of answers, in the order in which they are made."""


class _Trail(NamedTuple):
    """The splits on the way to a leg."""

    names: tuple[str, ...] = ()
    """Of services whose splitters were asked."""
    steps: tuple[str, ...] = ()
    edits: tuple[tuple[HeaderEdits | None, HeaderEdits | None], ...] = ()


_START = _Trail()


class _Resolved(NamedTuple):
    """What a service's name leads to."""

    target: Target
    resolver: ServiceResolver | None = None
    refusal: str = ""
    steps: tuple[str, ...] = ()


class _TooMany(Exception):
    """A route has more than CHAIN_LEGS legs."""


class _Compiler:
    """Makes one chain. Owned by `chain_of`."""

    def __init__(self, services: Mapping[str, Routed], name: str, datacenter: str) -> None:
        self._services = services
        self._name = name
        self._datacenter = datacenter
        self._legs = 0
        """Of the route that is being made."""
        self._looks = 0
        """At services and splits, for all routes."""

    def ways(self) -> Iterator[Way]:
        """Each route, and the service itself."""
        traffic = self._traffic(self._name)
        for number, route in enumerate(traffic.router.routes if traffic.router else ()):
            if self._looks > limits.CHAIN_LOOKS:
                yield self._closed(f"the routes of {self._name} lead more than {limits.CHAIN_LOOKS} ways together, and those from {number} on are not followed")
                return
            yield self._way(route, f"Routes[{number}]")
        if "service-router" in traffic.unreadable:
            yield self._closed(f"the service-router of {self._name} is not understood by this version")
        yield self._way(None, "default")

    def _closed(self, refusal: str) -> Way:
        """Refuses all that came so far."""
        return Way(EVERY_REQUEST, "default", "", (Leg(route="default", target=Target(self._name), refusal=refusal),), (1.0,))

    def _way(self, route: Route | None, label: str) -> Way:
        to = (route.destination if route else None) or RouteDestination()
        http = route.match.http if route and route.match else None
        try:
            matcher = matcher_of(http)
            rewrite = _rewrite_of(route)
        except (BadPattern, AmbiguousPath) as error:
            matcher, rewrite = EVERY_REQUEST, None
            legs: list[_Share] = [_refused(Target(self._name), f"{label} of the service-router of {self._name}: {error}")]
        else:
            legs = self._legs_of(to)
        total = sum(each.weight for each in legs) or 1.0
        ends = tuple(min(end / total, 1.0) for end in accumulate(each.weight for each in legs))
        return Way(matcher, label, _told(route), tuple(_treated(each, to, label, rewrite) for each in legs), ends)

    def _legs_of(self, to: RouteDestination) -> list[_Share]:
        self._legs = 0
        name, subset = to.service or self._name, to.service_subset
        try:
            found = [self._resolve(Target(name, subset), 1.0, _START)] if subset else list(self._split(name, 1.0, _START))
        except _TooMany:
            found = [_refused(Target(name), f"splits of {name} and of its splits are more than {limits.CHAIN_LEGS} together")]
        return [each for each in found if each.weight] or [_refused(Target(name), f"no split of {name} has a weight")]

    def _split(self, name: str, weight: float, trail: _Trail) -> Iterator[_Share]:
        traffic, names = self._traffic(name), trail.names
        self._looks += 1
        if "service-splitter" in traffic.unreadable:
            yield _refused(Target(name), f"the service-splitter of {name} is not understood by this version", weight)
        elif name in names or len(names) > limits.POLICY_HOPS:
            yield _refused(Target(name), f"splits lead in a circle, or too far: {' -> '.join((*names[-limits.POLICY_WAY :], name))}", weight)
        elif traffic.splitter is None:
            yield self._resolve(Target(name), weight, trail)
        else:
            for split in traffic.splitter.splits:
                yield from self._part(split, name, weight * split.weight / 100, trail)

    def _part(self, split: Split, of: str, weight: float, trail: _Trail) -> Iterator[_Share]:
        """One split. That of a service to itself goes to its own instances."""
        target = Target(split.service or of, split.service_subset)
        step = f"splitter of {of}: {split.weight:g} % to {target}"
        edits = (split.request_headers, split.response_headers)
        beyond = _Trail((*trail.names, of), (*trail.steps, step), (*trail.edits, edits))
        if target.subset or target.service == of:
            yield self._resolve(target, weight, beyond)
        else:
            yield from self._split(target.service, weight, beyond)

    def _resolve(self, wanted: Target, weight: float, trail: _Trail) -> _Share:
        self._legs, self._looks = self._legs + 1, self._looks + 1
        if self._legs > limits.CHAIN_LEGS:
            raise _TooMany
        found = self._resolved(wanted)
        stand_ins, steps = self._stand_ins(found.target, found.resolver) if not found.refusal else ((), ())
        steps = (*trail.steps, *found.steps, *steps)
        leg = Leg(route="", target=found.target, stand_ins=stand_ins, refusal=found.refusal, steps=steps)
        if found.resolver:
            said = found.resolver
            times = (said.request_timeout.seconds, said.connect_timeout.seconds)
            leg = replace(leg, balancer=said.load_balancer, try_timeout_s=times[0], connect_timeout_s=times[1])
        return _Share(weight, leg, trail.edits)

    def _resolved(self, target: Target) -> _Resolved:
        """What is meant by a target: redirects and default subsets are followed, not into a circle."""
        seen: list[Target] = []
        while target not in seen and len(seen) < limits.POLICY_HOPS:
            seen.append(target)
            resolver, refusal = self._resolver(target)
            following, says = _following(target, resolver) if not refusal else (target, "")
            refusal = refusal or self._foreign(resolver)
            if refusal or following == target:
                steps = tuple(f"resolver: {each}" for each in _moves(seen))
                return _Resolved(target, resolver, refusal or says, steps)
            target = following
        return _Resolved(target, refusal=f"redirects lead in a circle, or too far: {' -> '.join(map(str, (*seen[-8:], target)))}")

    def _resolver(self, target: Target) -> tuple[ServiceResolver | None, str]:
        """Of the target's service, or why nobody can say what is meant."""
        service = self._services.get(target.service)
        if service is None:
            return None, f"no service {target.service} is known here"
        own = self._services.get(self._name)
        if own and service.protocol != own.protocol:
            return None, f"{target.service} speaks {service.protocol}, and {self._name} speaks {own.protocol}"
        traffic = self._traffic(target.service)
        if "service-resolver" in traffic.unreadable:
            return None, f"the service-resolver of {target.service} is not understood by this version"
        return traffic.resolver, ""

    def _foreign(self, resolver: ServiceResolver | None) -> str:
        """Why a redirect cannot be followed, else nothing."""
        to = resolver.redirect if resolver else None
        where = to and (to.peer or to.sameness_group or (to.datacenter if to.datacenter != self._datacenter else ""))
        return f"{resolver.name if resolver else ''} is redirected to {where}, and calls to other clusters are not carried" if where else ""

    def _stand_ins(self, target: Target, resolver: ServiceResolver | None) -> tuple[tuple[Target, ...], tuple[str, ...]]:
        """Who stands in for a target, and what of it is left out and why."""
        found, steps = dict[Target, None](), list[str]()
        for wanted, where in _named_stand_ins(target, resolver):
            resolved = self._resolved(wanted)
            away = where and where != self._datacenter
            if away or resolved.refusal:
                steps.append(f"failover to {wanted}{f' of {where}' if away else ''} is left out: {resolved.refusal or 'other clusters are not carried'}")
            elif resolved.target != target:
                found[resolved.target] = None
        return tuple(found), (*steps, *(f"failover to {each}" for each in found))

    def _traffic(self, name: str) -> Traffic:
        service = self._services.get(name)
        return (service.traffic if service else None) or _NOTHING_SAID


_NOTHING_SAID = Traffic()


def _following(target: Target, resolver: ServiceResolver | None) -> tuple[Target, str]:
    """The target that is meant by this one, itself where it is the last; and why that one is none."""
    if resolver is None:
        return target, f"{target.service} has no subset {target.subset}" if target.subset else ""
    if resolver.redirect:
        to = Target(resolver.redirect.service or target.service, resolver.redirect.service_subset)
        if to.service != target.service or (to.subset and to != target):
            return to, ""
    if not target.subset:
        return Target(target.service, resolver.default_subset), ""
    return target, "" if target.subset in resolver.subsets else f"{target.service} has no subset {target.subset}"


def _moves(seen: list[Target]) -> Iterator[str]:
    """Each step from one target to the next."""
    return (f"{before} means {after}" for before, after in pairwise(seen))


def _named_stand_ins(target: Target, resolver: ServiceResolver | None) -> Iterator[tuple[Target, str]]:
    """Those that an entry names, with the datacenter or cluster of each; empty: this one."""
    said = (resolver.failover.get(target.subset) or resolver.failover.get(ANY)) if resolver else None
    if said is None:
        return
    own = Target(said.service or target.service, said.service_subset if said.service or said.service_subset else target.subset)
    if said.sameness_group:
        yield own, said.sameness_group
    for datacenter in said.datacenters:
        yield own, datacenter
    if not said.datacenters and (said.service or said.service_subset):
        yield own, ""
    for each in said.targets:
        subset = each.service_subset if each.service or each.service_subset else target.subset
        yield Target(each.service or target.service, subset), each.peer or each.datacenter


def _refused(target: Target, why: str, weight: float = 1.0) -> _Share:
    return _Share(weight, Leg(route="", target=target, refusal=why), ())


def _treated(share: _Share, to: RouteDestination, label: str, rewrite: Rewrite | None) -> Leg:
    """The leg as the route wants it. What is said nearer to the instances is done later."""
    return replace(
        share.leg,
        route=label,
        rewrite=rewrite,
        request_edits=edits_of((to.request_headers, *(asked for asked, _ in share.edits))),
        response_edits=edits_of((to.response_headers, *(answered for _, answered in share.edits))),
        request_timeout_s=to.request_timeout.seconds,
        idle_timeout_s=to.idle_timeout.seconds,
        retries=retry_policy(to),
    )


def _rewrite_of(route: Route | None) -> Rewrite | None:
    to, http = route.destination if route else None, route.match.http if route and route.match else None
    matched = (http.path_exact or http.path_prefix) if http else ""
    return Rewrite.of(matched, to.prefix_rewrite) if to and to.prefix_rewrite and matched else None


def _told(route: Route | None) -> str:
    """What a route matches, in a few words."""
    http = route.match.http if route and route.match else None
    if http is None:
        return "every request"
    said = (("path", http.path_exact), ("path prefix", http.path_prefix), ("path pattern", http.path_regex), ("methods", " ".join(http.methods)))
    words = [f"{what} {value}" for what, value in said if value]
    return ", ".join((*words, *(f"header {each.name}" for each in http.header), *(f"parameter {each.name}" for each in http.query_param))) or "every request"
