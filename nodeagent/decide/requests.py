"""Which requests of a pair are allowed: the first permission that speaks of one decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from nodeagent.decide.match import EVERY_REQUEST, Matcher, RequestView, matcher_of
from nodeagent.errors import Denied
from nodeagent.model.action import Action
from nodeagent.model.patterns import BadPattern
from nodeagent.model.policy.intentions import Permission


@dataclass(frozen=True, slots=True)
class RequestPermit:
    """Proof that a request may go on. `authorize_request` alone hands it out."""

    by: str
    """The intention, and the permission of it, that said yes."""


@dataclass(frozen=True, slots=True)
class Clause:
    """What is said about the requests that match, made ready to be asked."""

    matcher: Matcher
    says: str
    """Who it is, for logs and explanations."""
    permit: RequestPermit | None
    """None: it denies."""


@dataclass(frozen=True, slots=True)
class RequestRule:
    """What a pair may ask, made ready once for each snapshot."""

    clauses: tuple[Clause, ...]
    """In their order; the last one speaks of every request."""
    reads_path: bool
    """Whether paths must be normal before the rule is asked."""


def request_rule(permissions: Sequence[Permission], by: str, *, is_allowed_otherwise: bool = False) -> RequestRule:
    """The rule of an intention.

    A permission that needs a token cannot be met yet: all that it matches is denied.

    is_allowed_otherwise: requests that no permission speaks of; all, where there are none.

    Raises:
        BadPattern: it has a pattern that is none.
    """
    clauses = [_clause(each, number, by) for number, each in enumerate(permissions)]
    says = f"{by}, of which no permission matches," if clauses else by
    rest = Clause(EVERY_REQUEST, says, RequestPermit(by) if is_allowed_otherwise else None)
    return RequestRule((*clauses, rest), any(clause.matcher.reads_path for clause in clauses))


def closed_rule(permissions: Sequence[Permission], by: str, *, is_allowed_otherwise: bool = False) -> RequestRule:
    """As `request_rule`; where a permission is not understood, all requests are denied."""
    try:
        return request_rule(permissions, by, is_allowed_otherwise=is_allowed_otherwise)
    except BadPattern as error:
        return request_rule((), f"{by}, of which a permission has no sound pattern ({error}),")


def authorize_request(rule: RequestRule, view: RequestView) -> RequestPermit:
    """The permit for one request.

    view: with a normal target, where the rule reads paths.

    Raises:
        Denied: names the permission, or the intention, that said no.
    """
    clause = deciding_clause(rule, view)
    if clause.permit is None:
        raise Denied(f"{clause.says} denies the request")
    return clause.permit


def deciding_clause(rule: RequestRule, view: RequestView) -> Clause:
    """The first that speaks of the request."""
    return next(clause for clause in rule.clauses if clause.matcher.matches(view))


def _clause(said: Permission, number: int, by: str) -> Clause:
    action: Action = "deny" if said.jwt else said.action
    says = f"permission {number} of {by} ({action}{', for it needs a token' if said.jwt else ''})"
    matcher = matcher_of(said.http, is_wide=action == "deny")
    return Clause(matcher, says, RequestPermit(says) if action == "allow" else None)
