"""Why a request goes where it goes: asks what the data path asks, and has each answer said in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from nodeagent.decide.authorize import protocol_of, speaks_http
from nodeagent.decide.balance import is_usable, members
from nodeagent.decide.chain import Chain, Leg, Target, Way, chain_of
from nodeagent.decide.match import RequestView
from nodeagent.decide.mode import mode_of
from nodeagent.decide.path import normalize, path_rules
from nodeagent.decide.request_rule import rule_of
from nodeagent.decide.requests import RequestRule, authorize_request, closed_rule
from nodeagent.decide.routed import why_dialled
from nodeagent.errors import AgentError, Denied
from nodeagent.model.explanation import Candidate, LegRow, LegVerdict, RequestExplanation, Step
from nodeagent.model.message import RequestHead
from nodeagent.model.service import Instance
from nodeagent.model.snapshot import Snapshot


class Leased(NamedTuple):
    """What a host's workers have of a bound of its caller."""

    service: str
    subset: str
    kind: str
    """`requests` or `connections`."""
    limit: int
    held: int
    wanted: int


class _Question(NamedTuple):
    """What is asked, and by which snapshot."""

    snapshot: Snapshot
    source: str
    destination: str


def explain_request(snapshot: Snapshot, source: str, destination: str, head: RequestHead) -> RequestExplanation:
    """Each step of one request: path, router, splitter, resolver, candidates, intention.

    source: the service that calls.
    """
    question = _Question(snapshot, source, destination)
    try:
        return _explained(question, head)
    except AgentError as error:
        return _made(question, head, steps=(Step("request", "refused", f"{error.reason}: {error}"),))


def with_shared(told: RequestExplanation, ejected: Mapping[tuple[str, str, str], float], leased: Sequence[Leased]) -> RequestExplanation:
    """With what this host's workers know besides. ejected: for how many seconds yet, by service, subset, and host/id of the instance."""

    def of(leg: LegRow) -> LegRow:
        way = (leg.service, leg.subset)
        seen = tuple(
            msgspec.structs.replace(each, ejected_s=round(ejected.get((*way, f"{each.host}/{each.id}"), 0.0), 1)) for each in leg.candidates
        )
        steps = tuple(
            Step("bound", "note", f"{each.limit} {each.kind} of {told.source}: its workers hold {each.held}, and asked for {each.wanted}")
            for each in leased
            if (each.service, each.subset) == way
        )
        return msgspec.structs.replace(leg, candidates=seen, steps=(*leg.steps, *steps))

    return msgspec.structs.replace(told, legs=tuple(map(of, told.legs)))


def _explained(question: _Question, head: RequestHead) -> RequestExplanation:
    snapshot, source, destination = question
    chain, rule = _chain(question), _rule(snapshot, source, destination)
    target = normalize(head.target, path_rules(snapshot.mesh.normalization)) if chain.reads_path or rule.reads_path else head.target
    seen = msgspec.structs.replace(head, target=target)
    way = chain.way_of(RequestView(seen, target))
    legs = tuple(_leg_row(snapshot, source, seen, leg, share) for leg, share in zip(way.legs, way.shares, strict=True))
    steps = (*_notes(snapshot, destination), *_path(head.target, target), *_routes(question, chain, way))
    return _made(question, seen, way.label, steps, legs)


def _chain(question: _Question) -> Chain:
    """The chain of a service; of one whose instances are dialled, the service as it is."""
    snapshot, source, destination = question
    if destination in snapshot.services and why_dialled(snapshot, source, destination):
        as_it_is = msgspec.structs.replace(snapshot.services[destination], traffic=None)
        return chain_of({destination: as_it_is}, destination)
    return chain_of(snapshot.services, destination, datacenter=snapshot.mesh.datacenter)


def _rule(snapshot: Snapshot, source: str, destination: str) -> RequestRule:
    """What decides the requests of a pair."""
    said = rule_of(snapshot, source, destination)
    return closed_rule(said.permissions, said.by, is_allowed_otherwise=said.is_allowed_otherwise)


def _made(question: _Question, head: RequestHead, route: str = "", steps: tuple[Step, ...] = (), legs: tuple[LegRow, ...] = ()) -> RequestExplanation:
    return RequestExplanation(
        source=question.source,
        destination=question.destination,
        method=_text(head.method),
        path=_text(head.target),
        route=route,
        steps=steps,
        legs=legs,
        passes=bool(legs) and all(leg.verdict == "allow" and any(each.state == "ok" for each in leg.candidates) for leg in legs),
        generation=question.snapshot.generation,
    )


# --- what is the same for all legs ---------------------------------------------------------------------------------


def _notes(snapshot: Snapshot, destination: str) -> Iterator[Step]:
    """Why what follows may not be what happens."""
    if destination in snapshot.services and not speaks_http(snapshot, destination):
        text = f"{destination} speaks {protocol_of(snapshot, destination)}: its requests are not read, connections are decided"
        yield Step("protocol", "note", f"{text}; see: nodeagent why --to {destination}")
    if mode_of(snapshot, destination) == "observe":
        yield Step("mode", "note", "observe on this host: requests pass as without the agent, and nothing of this is enforced")


def _path(came: bytes, seen: bytes) -> Iterator[Step]:
    if came != seen:
        yield Step("path", "note", f"{_text(came)} is {_text(seen)} to rules, and goes on so")


def _routes(question: _Question, chain: Chain, way: Way) -> Iterator[Step]:
    """Those that were asked, and the one that matched."""
    if question.destination in question.snapshot.services and (why := why_dialled(*question)):
        yield Step("router", "note", f"each request goes to the instance that is dialled: {why}")
        return
    *others, last = chain.ways[: chain.ways.index(way) + 1]
    for each in others:
        yield Step("router", "note", f"{each.label} does not match: {each.says}")
    if last.label != "default":
        yield Step("router", "ok", f"{last.label} matches: {last.says}")
    else:
        yield Step("router", "ok", "no route matches" if others else f"{question.destination} has none")


# --- legs ----------------------------------------------------------------------------------------------------------


def _leg_row(snapshot: Snapshot, source: str, head: RequestHead, leg: Leg, share: float) -> LegRow:
    path, verdict, why = _decided(snapshot, source, head, leg)
    return LegRow(
        percent=round(share * 100, 4),
        target=str(leg.target),
        service=leg.target.service,
        subset=leg.target.subset,
        stand_ins=tuple(map(str, leg.stand_ins)),
        path=path,
        steps=tuple(_leg_steps(snapshot, leg, path)),
        candidates=() if leg.refusal else tuple(_candidates(snapshot, leg)),
        verdict=verdict,
        why=why,
    )  # fmt: skip


def _decided(snapshot: Snapshot, source: str, head: RequestHead, leg: Leg) -> tuple[str, LegVerdict, str]:
    """The path at the far end, and what is said there: by the rule of the service to which the leg leads, of the request as it comes there."""
    if leg.refusal:
        return "", "refused", leg.refusal
    rule = _rule(snapshot, source, _taken(snapshot, leg).service)
    try:
        target, headers = leg.onward(head.target, head.headers)
        target = normalize(target, path_rules(snapshot.mesh.normalization)) if rule.reads_path else target
        there = msgspec.structs.replace(head, target=target, headers=headers)
        return _text(target), "allow", authorize_request(rule, RequestView(there, target)).by
    except Denied as error:
        return _text(target), "deny", str(error)
    except AgentError as error:
        return _text(head.target), "refused", str(error)


def _leg_steps(snapshot: Snapshot, leg: Leg, path: str) -> Iterator[Step]:
    for said in leg.steps:
        what, _, rest = said.partition(" ")
        yield Step(what.rstrip(":"), "note", rest)
    if leg.rewrite:
        yield Step("path", "note", f"goes on as {path}")
    for name, edits in (("request", leg.request_edits), ("answer", leg.response_edits)):
        if edits.removed or edits.put:
            fields = sorted({*edits.removed, *(field.lower() for field, _ in edits.put)})
            yield Step("headers", "note", f"of the {name}: {', '.join(map(_text, fields))}")
    if times := _times(leg):
        yield Step("times", "note", times)
    if leg.balancer and leg.balancer.policy:
        yield Step("balancer", "note", leg.balancer.policy)
    for stand_in in leg.stand_ins:
        able = sum(map(is_usable, members(snapshot.services, stand_in)))
        yield Step("failover", "note", f"{stand_in} stands in, with {able} healthy")


def _times(leg: Leg) -> str:
    spans = (("request", leg.request_timeout_s), ("one try", leg.try_timeout_s), ("idle", leg.idle_timeout_s), ("connect", leg.connect_timeout_s))
    told = [f"{what} {span:g} s" for what, span in spans if span]
    if leg.retries.tries_more:
        told.append(f"{leg.retries.tries_more} retries for {', '.join(sorted((*leg.retries.conditions, *map(str, leg.retries.statuses))))}")
    return ", ".join(told)


def _taken(snapshot: Snapshot, leg: Leg) -> Target:
    """The target, or who stands in for it while it has nobody."""
    able = (each for each in (leg.target, *leg.stand_ins) if any(map(is_usable, members(snapshot.services, each))))
    return next(able, leg.target)


def _candidates(snapshot: Snapshot, leg: Leg) -> Iterator[Candidate]:
    """Of the target, and of who stands in for it now."""
    for target in dict.fromkeys((leg.target, _taken(snapshot, leg))):
        stands_in = "" if target == leg.target else str(target)
        for instance in members(snapshot.services, target):
            addresses = tuple(map(str, instance.addresses))
            yield Candidate(instance.id, instance.host, addresses, instance.weight, _state(instance), stand_in=stands_in)


def _state(instance: Instance) -> str:
    """As the catalog has it."""
    facts = (
        (instance.gone, "gone"), (instance.drained, "drained"), (not instance.healthy, "unhealthy"), (not instance.weight, "weight 0"),
        (not instance.addresses, "no address"),
    )  # fmt: skip
    return next((word for is_so, word in facts if is_so), "ok")


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
