"""What of a request is hashed."""

import pytest

from nodeagent.decide.hashing import Key, hashed, key_of
from nodeagent.model.policy.resolving import Cookie, HashPolicy
from nodeagent.model.policy.values import Duration
from tests.support.requests import view

USER = HashPolicy(field="header", field_value="X-User")
CART = HashPolicy(field="query_parameter", field_value="cart")
SESSION = HashPolicy(field="cookie", field_value="sid")
ADDRESS = HashPolicy(source_ip=True)


def key(*policies: HashPolicy, line: str = "GET /", fields: tuple[str, ...] = ()) -> Key:
    return key_of(policies, view(line, *fields), b"10.0.0.1", lambda: b"made")


@pytest.mark.parametrize(
    ("policy", "line", "fields", "text"),
    [
        (USER, "GET /", ("x-user: ann",), b"ann"),
        (USER, "GET /", ("x-user: ann", "x-user: bob"), b"ann,bob"),
        (USER, "GET /", (), None),
        (CART, "GET /?cart=7", (), b"7"),
        (CART, "GET /", (), None),
        (SESSION, "GET /", ("Cookie: a=1; sid=42",), b"42"),
        (SESSION, "GET /", ("Cookie: a=1", 'Cookie: sid="42"; sid=43'), b"42"),
        (SESSION, "GET /", ("Cookie: sid; xsid=4",), None),
        (ADDRESS, "GET /", (), b"10.0.0.1"),
    ],
)
def test_a_part_of_the_request_is_hashed(policy: HashPolicy, line: str, fields: tuple[str, ...], text: bytes | None) -> None:
    """A header, a cookie, a parameter, or where it came from; nothing where it has none."""
    assert Key(None if text is None else hashed(text)) == key(policy, line=line, fields=fields)


def test_several_parts_are_hashed_together() -> None:
    """In their order, each with its weight."""
    one = key(USER, CART, line="GET /?cart=7", fields=("x-user: ann",))
    assert one.value is not None
    assert one != key(USER, CART, line="GET /?cart=8", fields=("x-user: ann",))
    assert one != key(CART, USER, line="GET /?cart=7", fields=("x-user: ann",))
    assert key(ADDRESS, ADDRESS).value != 0
    assert key(USER) == Key(None)


def test_a_terminal_part_is_enough() -> None:
    """If the request has it."""
    terminal = HashPolicy(field="header", field_value="x-user", terminal=True)
    assert Key(hashed(b"ann")) == key(terminal, ADDRESS, fields=("x-user: ann",))
    assert Key(hashed(b"10.0.0.1")) == key(terminal, ADDRESS)


@pytest.mark.parametrize(
    ("cookie", "said"),
    [
        (Cookie(session=True, path="/shop"), b"sid=made; Path=/shop; HttpOnly"),
        (Cookie(ttl=Duration(30 * 10**9)), b"sid=made; Max-Age=30; HttpOnly"),
        (Cookie(session=True, path="/a; Domain=x"), b"sid=made; HttpOnly"),
        (Cookie(session=True, path="/a\r\nb"), b"sid=made; HttpOnly"),
    ],
)
def test_a_cookie_is_made_where_one_is_wanted(cookie: Cookie, said: bytes) -> None:
    """Its answer carries it; what a client has is not made again."""
    policy = HashPolicy(field="cookie", field_value="sid", cookie_config=cookie)
    assert Key(hashed(b"made"), (said,)) == key(policy)
    assert Key(hashed(b"42")) == key(policy, fields=("cookie: sid=42",))


def test_a_cookie_has_a_name_that_is_one() -> None:
    """Else none is made."""
    assert Key(None) == key(HashPolicy(field="cookie", field_value="a\r\nb", cookie_config=Cookie(session=True)))
