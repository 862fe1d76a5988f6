"""Rules of pairs of services, made ready once for as long as what they come from is the same."""

from typing import NamedTuple

from nodeagent import limits
from nodeagent.decide.mode import mode_of
from nodeagent.decide.path import PathRules, path_rules
from nodeagent.decide.request_rule import rule_of
from nodeagent.decide.requests import RequestRule, closed_rule
from nodeagent.model.snapshot import Snapshot


class Rule(NamedTuple):
    """What decides the requests of a pair."""

    of: tuple[object, ...]
    """What it was made from."""
    rule: RequestRule
    paths: PathRules
    is_enforced: bool
    """Whether the mode wants its word to count."""


class Rules:
    """Owned by one worker."""

    def __init__(self, limit: int = limits.REQUEST_RULES) -> None:
        self._rules: dict[tuple[str, str], Rule] = {}
        self._limit = limit

    def rule(self, snapshot: Snapshot, source: str, destination: str) -> Rule:
        """The rule of the pair under this snapshot."""
        of = (snapshot.wildcards, snapshot.services.get(destination), snapshot.mesh)
        known = self._rules.get((source, destination))
        if known and all(one is other for one, other in zip(known.of, of, strict=True)):
            return known
        self._rules.pop((source, destination), None)
        if len(self._rules) >= self._limit:
            del self._rules[next(iter(self._rules))]
        made = self._rules[source, destination] = _made(snapshot, source, destination, of)
        return made


def _made(snapshot: Snapshot, source: str, destination: str, of: tuple[object, ...]) -> Rule:
    said = rule_of(snapshot, source, destination)
    rule = closed_rule(said.permissions, said.by, is_allowed_otherwise=said.is_allowed_otherwise)
    return Rule(of, rule, path_rules(snapshot.mesh.normalization), mode_of(snapshot, destination) != "observe")
