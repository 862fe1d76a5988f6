"""Which requests a rule speaks of: the conditions of entries, made ready once and asked for each request.

A rule that allows, or leads somewhere, is for requests that match as they are read here. One that denies is *wide*: it is also for those
that match as some application may read them. So no second reading of a request gets around a deny.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from nodeagent import limits
from nodeagent.decide.path import other_readings, read_path, rule_path, rule_prefix
from nodeagent.errors import AmbiguousPath
from nodeagent.model.message import CHUNKED, RequestHead, plain_name
from nodeagent.model.patterns import compile_pattern
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, QueryMatch
from nodeagent.model.policy.intentions import PermissionMatch


class RequestView:
    """What rules read of one request, each part made when it is first asked for. Owned by whoever decides about the request."""

    __slots__ = ("_fields", "_paths", "_plain", "_query", "head", "target")

    def __init__(self, head: RequestHead, target: bytes) -> None:
        """target: as `normalize` gave it, where a rule reads paths."""
        self.head = head
        self.target = target
        self._fields: dict[bytes, list[bytes]] | None = None
        self._plain: dict[bytes, list[bytes]] | None = None
        self._query: dict[bytes, bytes] | None = None
        self._paths: tuple[bytes, ...] | None = None

    @property
    def path(self) -> bytes:
        """Decoded, without the query."""
        return self.paths[0]

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The same, and what some applications make of it."""
        if self._paths is None:
            self._paths = (read_path(self.target), *other_readings(self.target))
        return self._paths

    def fields(self, name: bytes) -> list[bytes]:
        """Values of a header. name: in lower case."""
        if self._fields is None:
            self._fields = _by_name(self.head)
        return self._fields.get(name, _NONE)

    def alike(self, name: bytes) -> list[bytes]:
        """Of a header, and of those that some applications take for it: `x_a` is `x-a` where names become variables. name: a plain one."""
        if self._plain is None:
            fields = self._fields if self._fields is not None else _by_name(self.head)
            self._plain = fields if all(plain_name(each) == each for each in fields) else _by_name(self.head, plain_name)
        return self._plain.get(name, _NONE)

    def parameter(self, name: bytes) -> bytes | None:
        """The first of the query with that name, decoded."""
        if self._query is None:
            self._query = _parameters(self.target.partition(b"?")[2])
        return self._query.get(name)


Condition = Callable[[RequestView], bool]


class Matcher(NamedTuple):
    """The conditions of a rule, of which all must hold."""

    conditions: tuple[Condition, ...] = ()
    reads_path: bool = False
    """Whether the path must be normal before it is asked."""

    def matches(self, view: RequestView) -> bool:
        """Whether the rule is for the request."""
        return all(holds(view) for holds in self.conditions)


EVERY_REQUEST = Matcher()


def matcher_of(said: HttpMatch | PermissionMatch | None, *, is_wide: bool = False) -> Matcher:
    """Made ready to be asked. is_wide: of a rule that denies.

    Raises:
        BadPattern: it has a pattern that is none.
    """
    if said is None:
        return EVERY_REQUEST
    path = tuple(_path_conditions(said, is_wide=is_wide))
    return Matcher((*path, *_other_conditions(said, is_wide=is_wide)), reads_path=bool(path))


# --- paths ---------------------------------------------------------------------------------------------------------


def _path_conditions(said: HttpMatch | PermissionMatch, *, is_wide: bool) -> Iterator[Condition]:
    fold = isinstance(said, HttpMatch) and said.case_insensitive
    try:
        if said.path_exact:
            yield _path_condition(_equal(_folded(rule_path(said.path_exact), fold=fold)), is_wide=is_wide, fold=fold)
        if said.path_prefix:
            yield _path_condition(_begins(_folded(rule_prefix(said.path_prefix), fold=fold)), is_wide=is_wide, fold=fold)
    except AmbiguousPath:  # no request that is read here has such a path; what is denied with it is denied at all
        yield (lambda _view: True) if is_wide else (lambda _view: False)
    if said.path_regex:
        pattern = f"(?i:{said.path_regex})" if fold else said.path_regex
        yield _path_condition(_fits(pattern), is_wide=is_wide, fold=False)


def _path_condition(test: Callable[[bytes], bool], *, is_wide: bool, fold: bool) -> Condition:
    if is_wide:
        return lambda view: any(test(path) for path in view.paths)
    if fold:
        return lambda view: test(view.path.lower())
    return lambda view: test(view.path)


def _folded(text: bytes, *, fold: bool) -> bytes:
    return text.lower() if fold else text


def _equal(wanted: bytes) -> Callable[[bytes], bool]:
    return lambda found: found == wanted


def _begins(wanted: bytes) -> Callable[[bytes], bool]:
    return lambda found: found.startswith(wanted)


def _fits(text: str) -> Callable[[bytes], bool]:
    """The whole of it, as in Consul's proxies."""
    pattern: Any = compile_pattern(text, limits.POLICY_PATTERN_BYTES)
    return lambda found: pattern.fullmatch(_as_utf8(found)) is not None


def _as_utf8(text: bytes) -> bytes:
    """What is no UTF-8 as a character that patterns find: a dot of theirs is any."""
    return text if text.isascii() else text.decode(errors="replace").encode()


# --- methods, headers, parameters ----------------------------------------------------------------------------------


def _other_conditions(said: HttpMatch | PermissionMatch, *, is_wide: bool) -> Iterator[Condition]:
    if said.methods:
        yield _method_condition(frozenset(method.upper().encode() for method in said.methods), is_wide=is_wide)
    for header in said.header:
        yield _header_condition(header, is_wide=is_wide)
    for parameter in said.query_param if isinstance(said, HttpMatch) else ():
        yield _query_condition(parameter)


def _method_condition(methods: frozenset[bytes], *, is_wide: bool) -> Condition:
    """`get` is not GET, but to applications that write methods in upper case."""
    if is_wide:
        return lambda view: view.head.method.upper() in methods
    return lambda view: view.head.method in methods


def _header_condition(said: HeaderMatch, *, is_wide: bool) -> Condition:
    """Of several fields with one name the values together, as Consul's proxies; wide: or any one of them, or of names that are alike.

    A header that is missing does not match, and so does match what is inverted.
    """
    name, test, inverted = said.name.lower().encode(), _header_test(said), said.invert
    if not is_wide:
        return lambda view: _is_met(test, view.fields(name)) is not inverted
    plain = plain_name(name)
    return lambda view: any(_is_met(test, fields) is not inverted for fields in _readings(view.fields(name), view.alike(plain)))


def _is_met(test: Callable[[bytes], bool], fields: list[bytes]) -> bool:
    return bool(fields) and test(fields[0] if len(fields) == 1 else b",".join(fields))


def _readings(fields: list[bytes], alike: list[bytes]) -> Iterator[list[bytes]]:
    yield fields
    if alike != fields:
        yield alike
    if len(alike) > 1:
        yield from ([field] for field in alike)


def _header_test(said: HeaderMatch) -> Callable[[bytes], bool]:
    if said.regex:
        return _fits(said.regex)
    kind, wanted = _header_way(said)
    if not kind:
        return lambda _found: True
    if said.ignore_case:
        lowered, test = wanted.lower(), _TESTS[kind]
        return lambda found: test(found.lower(), lowered)
    test = _TESTS[kind]
    return lambda found: test(found, wanted)


def _header_way(said: HeaderMatch) -> tuple[str, bytes]:
    """How the value is compared; nothing: it is enough that there is one."""
    for kind in _TESTS:
        wanted: str = getattr(said, kind)
        if wanted:
            return kind, wanted.encode()
    return "", b""


_TESTS: dict[str, Callable[[bytes, bytes], bool]] = {
    "exact": bytes.__eq__,
    "prefix": bytes.startswith,
    "suffix": bytes.endswith,
    "contains": bytes.__contains__,
}


def _query_condition(said: QueryMatch) -> Condition:
    name = said.name.encode()
    if said.exact:
        wanted = said.exact.encode()
        return lambda view: view.parameter(name) == wanted
    if said.regex:
        test = _fits(said.regex)
        return lambda view: (found := view.parameter(name)) is not None and test(found)
    return lambda view: view.parameter(name) is not None


# --- what is read --------------------------------------------------------------------------------------------------

_NONE: list[bytes] = []


def _by_name(head: RequestHead, spelled: Callable[[bytes], bytes] = bytes.lower) -> dict[bytes, list[bytes]]:
    """Values by name, in lower case or as else, those included that the head tells apart."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in (*head.headers, *_told_apart(head)):
        found.setdefault(spelled(name), []).append(value)
    return found


def _told_apart(head: RequestHead) -> Iterator[tuple[bytes, bytes]]:
    """What stood in fields that are not among the headers any more; Envoy's names for the rest."""
    yield b"host", head.authority
    yield b":authority", head.authority
    yield b":method", head.method
    if head.length == CHUNKED:
        yield b"transfer-encoding", b"chunked"
    elif head.length:
        yield b"content-length", str(head.length).encode()
    if head.upgrade:
        yield b"upgrade", head.upgrade
    if head.expects_continue:
        yield b"expect", b"100-continue"


def _parameters(query: bytes) -> dict[bytes, bytes]:
    """Of parameters that stand twice the first; escapes are decoded, and what escapes nothing stays. `+` is a plus."""
    found: dict[bytes, bytes] = {}
    for each in query.split(b"&") if query else ():
        name, _, value = each.partition(b"=")
        found.setdefault(unquote_to_bytes(name), unquote_to_bytes(value))
    return found
