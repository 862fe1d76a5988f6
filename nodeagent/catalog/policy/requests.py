"""Matches of HTTP requests, which routers, intentions and our own kinds share: at most one path, one way for a header."""

from collections.abc import Iterator

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.catalog.policy.patterns import pattern_fault
from nodeagent.model.policy.defaults import RouteRate
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, QueryMatch, RequestMatch
from nodeagent.model.policy.intentions import PermissionMatch

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
_PATHS = (("PathExact", "path_exact"), ("PathPrefix", "path_prefix"), ("PathRegex", "path_regex"))


def match_faults(match: RequestMatch | None, path: str) -> Iterator[Fault]:
    """What is wrong with which requests a rule is for."""
    if match is not None and match.http is not None:
        yield from http_faults(match.http, below(path, "HTTP"))


def http_faults(match: HttpMatch | PermissionMatch, path: str) -> Iterator[Fault]:
    """What is wrong with the conditions."""
    yield from path_faults(match, path)
    yield from _method_faults(match.methods, below(path, "Methods"))
    for number, header in enumerate(match.header):
        yield from _header_faults(header, below(below(path, "Header"), number))
    for number, parameter in enumerate(match.query_param if isinstance(match, HttpMatch) else ()):
        yield from _query_faults(parameter, below(below(path, "QueryParam"), number))


def path_faults(match: HttpMatch | PermissionMatch | RouteRate, path: str) -> Iterator[Fault]:
    """What is wrong with the path that is matched: one way at most, from the root on."""
    said = [key for key, name in _PATHS if getattr(match, name)]
    if len(said) > 1:
        yield Fault(path, f"{_together(said)} are {'both' if len(said) == 2 else 'all'} set")
    for key, text in (("PathExact", match.path_exact), ("PathPrefix", match.path_prefix)):
        if text and not text.startswith("/"):
            yield Fault(below(path, key), f"{text[:80]!r} does not begin with /")
    yield from regex_faults(match.path_regex, below(path, "PathRegex"))


def regex_faults(pattern: str, path: str) -> Iterator[Fault]:
    """What is wrong with a pattern; an empty one was not said."""
    says = pattern_fault(pattern) if pattern else ""
    if says:
        yield Fault(path, says)


def _method_faults(methods: tuple[str, ...], path: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, method in enumerate(methods):
        if method.upper() not in METHODS:
            yield Fault(below(path, number), f"{method[:80]!r} is no method of HTTP; known: {', '.join(METHODS)}")
        elif method.upper() in seen:
            yield Fault(below(path, number), f"{method.upper()} stands twice")
        seen.add(method.upper())


def _header_faults(header: HeaderMatch, path: str) -> Iterator[Fault]:
    ways: dict[str, bool | str] = {
        "Present": header.present, "Exact": header.exact, "Prefix": header.prefix, "Suffix": header.suffix,
        "Contains": header.contains, "Regex": header.regex,
    }  # fmt: skip
    yield from _one_way(ways, path, f"the header {header.name[:80]}")
    if header.ignore_case and (header.present or header.regex):
        yield Fault(path, "IgnoreCase goes with Exact, Prefix, Suffix or Contains; a Regex says it by (?i)")
    yield from regex_faults(header.regex, below(path, "Regex"))


def _query_faults(parameter: QueryMatch, path: str) -> Iterator[Fault]:
    ways: dict[str, bool | str] = {"Present": parameter.present, "Exact": parameter.exact, "Regex": parameter.regex}
    yield from _one_way(ways, path, f"the parameter {parameter.name[:80]}")
    yield from regex_faults(parameter.regex, below(path, "Regex"))


def _one_way(ways: dict[str, bool | str], path: str, what: str) -> Iterator[Fault]:
    said = [key for key, value in ways.items() if value]
    if not said:
        yield Fault(path, f"{what} needs exactly one way to match: {', '.join(ways)}")
    elif len(said) > 1:
        yield Fault(path, f"{_together(said)} are set, and {what} needs exactly one way to match")


def _together(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
