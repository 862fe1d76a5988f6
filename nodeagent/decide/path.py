"""Paths of requests as rules read them: one spelling of each, and none that applications read in two ways."""

import re
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from nodeagent.errors import AmbiguousPath
from nodeagent.model.policy.defaults import Normalization

_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9_~!$&'()*+,=:@.-]*)*/?")
_ESCAPE = re.compile(rb"%(.{0,2})", re.DOTALL)
_HEX = frozenset(b"0123456789abcdefABCDEF")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SLASHES = {0x2F: b"%2F", 0x5C: b"%5C"}
_TWICE = re.compile(rb"%(?:2f|5c|00|2e|25)", re.IGNORECASE)  # decoded once more, each of them would be another path
_UNTOLD: Final = "no two applications need agree on what it names"


class PathRules(NamedTuple):
    """What the operator says about paths, in the entry `mesh`."""

    is_off: bool = False
    """Rules read what came, as it came."""
    slashes: str = "reject"
    """What becomes of `%2F` and `%5C`: `reject`, `keep` or `unescape`."""


DEFAULT_RULES: Final = PathRules()
_KEEP = PathRules(slashes="keep")


def path_rules(said: Normalization | None) -> PathRules:
    """The same from the entry. Slashes that are to be redirected are rejected: an agent answers nothing in an application's name."""
    if said is None:
        return DEFAULT_RULES
    slashes = {"KEEP_UNCHANGED": "keep", "UNESCAPE_AND_FORWARD": "unescape"}
    action = slashes.get(said.path_with_escaped_slashes_action, "reject")
    return PathRules(is_off=said.insecure_disable_path_normalization, slashes=action)


def normalize(target: bytes, rules: PathRules = DEFAULT_RULES) -> bytes:
    """The one spelling of a target's path, with its query as it came. What is normal already comes back as it is.

    Dot segments are gone, slashes merged, unreserved characters decoded, and all other escapes are of upper case. `;` is a part of
    its segment.

    target: of a request, in origin form, or `*`.

    Raises:
        AmbiguousPath: applications read it in more than one way.
    """
    if rules.is_off or target == b"*":
        return target
    path, mark, query = target.partition(b"?")
    if path and _PLAIN.fullmatch(path):
        return target
    return _normal(path, rules) + mark + query


def rule_path(said: str) -> bytes:
    """A path of a rule, as `read_path` gives that of a request.

    Raises:
        AmbiguousPath: no request that has it comes so far.
    """
    return read_path(_normal(_escaped(said), _KEEP))


def rule_prefix(said: str) -> bytes:
    """The same of the beginning of paths: `/.` is that of `/.git`, and no spelling of `/`."""
    head, slash, last = _escaped(said).rpartition(b"/")
    rest = read_path(_normal(b"/" + last, _KEEP))[1:] if last.strip(b".") else last
    return read_path(_normal(head + slash, _KEEP)) + rest


def read_path(target: bytes) -> bytes:
    """What rules compare of a normal target: its path, decoded. UTF-8, and an escaped slash that may stay is `%2F`."""
    path, _, _ = target.partition(b"?")
    return unquote_to_bytes(path.replace(b"%2F", b"%252F").replace(b"%5C", b"%255C")) if b"%" in path else path


def other_readings(target: bytes) -> tuple[bytes, ...]:
    """What some applications make of the same: a deny speaks of these, too.

    As escaped as it came; without the parameters of its segments; with its escaped slashes as such.
    """
    path, _, _ = target.partition(b"?")
    if b"%" not in path and b";" not in path:
        return ()
    plain = unquote_to_bytes(path)
    bare = b"/".join(segment.partition(b";")[0] for segment in plain.split(b"/"))
    split = plain.replace(b"\\", b"/")
    return tuple({path, plain, bare, *_resolved_or_none(split), *_resolved_or_none(bare)})


def _resolved_or_none(path: bytes) -> tuple[bytes, ...]:
    try:
        return (_resolved(path),)
    except AmbiguousPath:
        return (path,)


def _normal(path: bytes, rules: PathRules) -> bytes:
    """The order matters: what is decoded may be a dot or a slash."""
    if not path.startswith(b"/"):
        raise AmbiguousPath("the path does not begin with /")
    _refuse_raw(path)
    spelled = _ESCAPE.sub(lambda found: _respelled(found[1], rules), path)
    _refuse_decoded(unquote_to_bytes(spelled))
    resolved = _resolved(spelled)
    if b"%2F" in resolved or b"%5C" in resolved:
        _refuse_hidden(unquote_to_bytes(resolved))
    return resolved


def _escaped(said: str) -> bytes:
    """As a request would have it: what is no character of paths as its escape."""
    return quote_from_bytes(said.encode(), safe="/%;!$&'()*+,=:@~\\").encode()


def _refuse_raw(path: bytes) -> None:
    if b"\\" in path:
        raise AmbiguousPath(f"the path has a backslash: {_UNTOLD}")
    if any(byte <= 0x20 or byte >= 0x7F for byte in path) or b"#" in path:
        raise AmbiguousPath("the path has bytes that no path may have as they are")


def _respelled(digits: bytes, rules: PathRules) -> bytes:
    """One escape: decoded where it need not be one."""
    if len(digits) < 2 or not _HEX.issuperset(digits):
        raise AmbiguousPath("the path has a % that escapes nothing")
    byte = int(digits, 16)
    if byte in _UNRESERVED:
        return bytes((byte,))
    if byte in _SLASHES:
        return _slash(byte, rules)
    if byte < 0x20 or byte == 0x7F:
        raise AmbiguousPath(f"the path has an escaped control character: {_UNTOLD}")
    return b"%" + digits.upper()


def _slash(byte: int, rules: PathRules) -> bytes:
    if rules.slashes == "keep":
        return _SLASHES[byte]
    if rules.slashes == "unescape":
        return b"/"
    raise AmbiguousPath(f"the path has an escaped slash or backslash: {_UNTOLD}")


def _refuse_decoded(plain: bytes) -> None:
    try:
        plain.decode()
    except UnicodeDecodeError:
        raise AmbiguousPath("the path is not UTF-8") from None
    if _TWICE.search(plain):
        raise AmbiguousPath("the path is escaped twice")
    if any(segment.partition(b";")[0] in (b".", b"..") and b";" in segment for segment in plain.split(b"/")):
        raise AmbiguousPath(f"the path has parameters at a dot segment: {_UNTOLD}")


def _refuse_hidden(plain: bytes) -> None:
    """An escaped slash may stay as it is; not one that makes a dot segment of its neighbour."""
    if not {b".", b".."}.isdisjoint(plain.replace(b"\\", b"/").split(b"/")):
        raise AmbiguousPath("the path has a dot segment at an escaped slash")


def _resolved(path: bytes) -> bytes:
    """Without dot segments and empty ones."""
    kept: list[bytes] = []
    *inner, last = path.split(b"/")[1:]
    for segment in (*inner, last):
        if segment == b"..":
            if not kept:
                raise AmbiguousPath("the path leads above the root")
            kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    tail = b"/" if kept and last in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + tail


class Rewrite(NamedTuple):
    """Another beginning of the path."""

    matched: bytes
    """What is taken away, as `read_path` gives it."""
    by: bytes
    """What comes instead, escaped where it has to be."""

    @classmethod
    def of(cls, matched: str, by: str) -> "Rewrite":
        """Of an entry. matched: the exact path, or the prefix."""
        return cls(rule_prefix(matched), _escaped(by))

    def __call__(self, target: bytes) -> bytes:
        """The target with the other beginning, in its normal form. target: a normal one that matched.

        Raises:
            AmbiguousPath: with it, it leads above the root.
        """
        path, mark, query = target.partition(b"?")
        return normalize(self.by + path[_cut(path, len(self.matched)) :] + mark + query, _KEEP)


def _cut(path: bytes, decoded: int) -> int:
    """Where so many decoded bytes of a normal path end. An escaped slash that stayed counts as it is written."""
    at = 0
    while decoded > 0 and at < len(path):
        kept = path[at] != 0x25 or path[at : at + 3] in _SLASHES.values()
        at, decoded = at + (1 if kept else 3), decoded - 1
    return at
