"""Cases of requests, and what entries are expected to make of them: read, asked, compared."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nodeagent import limits
from nodeagent.catalog.policy.documents import parse_documents
from nodeagent.catalog.policy.fitting import fit
from nodeagent.decide.asked_request import asked_request
from nodeagent.decide.explain_request import explain_request
from nodeagent.errors import PolicyError
from nodeagent.model.explanation import RequestExplanation
from nodeagent.model.policy.cases import Case, Expected
from nodeagent.model.snapshot import Snapshot

_CLOSE = 0.005
"""Shares are said in hundredths of a percent."""


class Given(NamedTuple):
    """A case, and where it was read."""

    place: str
    case: Case

    def __str__(self) -> str:
        case = self.case
        return case.name or f"{case.from_} -> {case.to} {case.method} {case.path}"


class Result(NamedTuple):
    """What became of a case."""

    given: Given
    told: RequestExplanation
    differences: list[str]
    """Each in a sentence; none: all is as expected."""


def read_cases(paths: Sequence[str]) -> list[Given]:
    """The cases of all files, in their order.

    Raises:
        PolicyError: all that is wrong with them, each with its place.
    """
    faults: list[str] = []
    found = [given for path in paths for given in _read(path, faults)]
    if not found and not faults:
        faults.append(f"{', '.join(paths)}: no case is there; a case is an object with From, To and Expect")
    if faults:
        raise PolicyError(*faults)
    return found


def run_case(given: Given, snapshot: Snapshot) -> Result:
    """What the entries make of the case, and how that differs from what is expected."""
    case = given.case
    head = asked_request(case.method, case.path, (f"{name}: {value}" for name, value in case.headers.items()))
    told = explain_request(snapshot, case.from_, case.to, head)
    return Result(given, told, list(_differences(case.expect, told)))


def check_known(cases: Sequence[Given], snapshot: Snapshot) -> None:
    """Nothing, where each service that is called is known by the entries: a name that is misspelt is denied, as may be expected.

    Raises:
        PolicyError: those that are not.
    """
    faults = [f"{given.place}: no entry speaks of {given.case.to}" for given in cases if given.case.to not in snapshot.services]
    if faults:
        raise PolicyError(*faults)


def _read(path: str, faults: list[str]) -> Iterator[Given]:
    try:
        with Path(path).open("rb") as opened:
            documents = parse_documents(opened.read(limits.POLICY_FILE_BYTES + 1))
    except OSError as error:
        faults.append(f"{path}: cannot be read: {error.strerror or error}")
        return
    except PolicyError as error:
        faults.extend(f"{path}: {fault}" for fault in error.faults)
        return
    for number, document in enumerate(documents, 1):
        place = f"{path}: case {number}"
        if not isinstance(document.value, Mapping):
            faults.append(f"{place}: a case is an object with From, To and Expect")
            continue
        case, found = fit(document.value, Case)
        faults.extend(f"{place}: {fault}" for fault in (*found, *(_odd(case) if not found else ())))
        yield Given(place, case)


def _odd(case: Case) -> Iterator[str]:
    """What no agent would read as a request, or what would be true of any."""
    if case.expect == Expected():
        yield "Expect: says nothing"
    try:
        asked_request(case.method, case.path, (f"{name}: {value}" for name, value in case.headers.items()))
    except ValueError as error:
        yield str(error)


def _differences(expected: Expected, told: RequestExplanation) -> Iterator[str]:
    verdicts = {leg.verdict: leg.why for leg in told.legs} or {"refused": told.steps[-1].text if told.steps else ""}
    if expected.verdict and set(verdicts) != {expected.verdict}:
        found = "; ".join(f"{verdict} ({why})" for verdict, why in verdicts.items())
        yield f"Verdict: expected {expected.verdict}, found {found}"
    if expected.route and expected.route != told.route:
        yield f"Route: expected {expected.route}, found {told.route or 'none'}"
    shares: dict[str, float] = {}
    for leg in told.legs:
        shares[leg.target] = shares.get(leg.target, 0.0) + leg.percent
    if expected.targets and not _same(expected.targets, shares):
        yield f"Targets: expected {_shown(expected.targets)}, found {_shown(shares) or 'none'}"
    paths = dict.fromkeys(leg.path for leg in told.legs)
    if expected.path and list(paths) != [expected.path]:
        yield f"Path: expected {expected.path}, found {', '.join(paths) or 'none'}"


def _same(expected: Mapping[str, float], found: Mapping[str, float]) -> bool:
    return expected.keys() == found.keys() and all(abs(share - found[target]) < _CLOSE for target, share in expected.items())


def _shown(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{target} {share:g} %" for target, share in sorted(shares.items()))
