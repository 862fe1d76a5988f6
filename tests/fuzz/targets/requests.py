"""What decides about requests and reads what a client wrote: paths and fields."""

from nodeagent.decide.headers import Caller, Ids, for_application, read_told
from nodeagent.decide.path import PathRules, normalize, other_readings, read_path
from nodeagent.errors import AmbiguousPath

_IDS = Ids(b"r", b"1" * 32, b"2" * 16)
_ONCE = (b"x-request-id", b"traceparent", b"x-forwarded-for", b"x-forwarded-client-cert", b"x-nodeagent-hops")


def request_path(data: bytes) -> bool:
    """Any target has one normal spelling, which has itself as such, or is ambiguous."""
    is_taken = False
    for rules in (PathRules(), PathRules(slashes="keep"), PathRules(slashes="unescape")):
        try:
            normal = normalize(data, rules)
        except AmbiguousPath:
            continue
        is_taken = is_taken or rules == PathRules()
        assert normal == normalize(normal, rules)
        path = read_path(normal)
        assert path == b"*" or path.startswith(b"/")
        path.decode()
        assert not {b".", b".."} & set(path.split(b"/"))
        assert all(isinstance(other, bytes) for other in other_readings(normal))
    return is_taken


def request_fields(data: bytes) -> bool:
    """Any fields: what agents say stands there once, and said by us; all others stay in their order. Taken: something is left of them."""
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in data.split(b"\n")) if name]
    told = read_told(fields)
    if told.hops > 15:
        return False
    made = for_application(told, _IDS, Caller(b"spiffe://td/web", b"spiffe://td/shop"), b"10.0.0.1")
    for once in _ONCE:
        assert len([name for name, _ in made if name.lower().replace(b"_", b"-") == once]) == 1
    assert not any(name.lower().replace(b"_", b"-").startswith((b"x-spiffe-", b"x-mesh-")) for name, _ in made)
    assert [field for field in made if field in told.others][: len(told.others)] == told.others
    return bool(told.others)
