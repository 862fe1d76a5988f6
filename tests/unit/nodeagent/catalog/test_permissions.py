"""Rules for requests: read as they were meant, or a deny."""

import pytest

from nodeagent import limits
from nodeagent.catalog import permissions
from nodeagent.catalog.permissions import PermissionReader, Permitted, read_permissions
from nodeagent.model.policy.http import HeaderMatch
from nodeagent.model.policy.intentions import Permission, PermissionMatch

ADMIN = {"Action": "deny", "HTTP": {"PathPrefix": "/admin"}}
REST = {"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["get", "HEAD"], "Header": [{"Name": "x-canary", "Exact": "1"}]}}
TOKEN = {"Action": "allow", "JWT": {"Providers": [{"Name": "okta"}]}}


def read(*said: object, has_jwt: bool = False) -> Permitted:
    return read_permissions(said, "shop", "web", has_jwt=has_jwt)


def test_permissions_keep_their_order_and_have_methods_as_requests_do() -> None:
    """As Consul writes them: it takes methods in small letters, too."""
    headers = (HeaderMatch(name="x-canary", exact="1"),)
    rest = PermissionMatch(path_prefix="/", methods=("GET", "HEAD"), header=headers)
    expected = (Permission(action="deny", http=PermissionMatch(path_prefix="/admin")), Permission(action="allow", http=rest))
    assert Permitted(expected) == read(ADMIN, REST)


def test_an_allow_that_asks_for_a_token_denies_what_it_matches() -> None:
    """And what comes after it is not asked for such a request."""
    found = read({**REST, "JWT": TOKEN["JWT"]}, TOKEN, ADMIN)
    assert ["deny", "deny", "deny"] == [permission.action for permission in found.permissions]
    assert "shop -> web: a JWT cannot be checked yet: permissions that ask for one deny what they match" == found.note
    assert "" == read({**ADMIN, "JWT": TOKEN["JWT"]}).note


def test_where_the_destination_asks_for_a_token_no_permission_allows() -> None:
    """Those of each source are besides it."""
    assert ["deny", "deny"] == [permission.action for permission in read(ADMIN, REST, has_jwt=True).permissions]


@pytest.mark.parametrize(
    "said",
    [
        "words", 7, None, {"Action": "perhaps", "HTTP": {"PathPrefix": "/"}}, {"Action": "allow"}, {"Action": "allow", "HTTP": {}},
        {"Action": "allow", "HTTP": {"PathPrefix": "/", "Query": []}}, {"Action": "allow", "HTTP": {"PathRegex": "("}},
        {"Action": "allow", "HTTP": {"PathPrefix": "/", "Header": [{"Name": "x"}]}}, {"Action": "allow", "HTTP": {"PathExact": "x"}},
    ],
)  # fmt: skip
def test_what_is_not_understood_leaves_nothing_but_a_note(said: object) -> None:
    """A key of a newer Consul may be a condition: without it an allow would be for more."""
    found = read(ADMIN, said)
    assert () == found.permissions
    assert found.note.startswith("shop -> web: its permissions are not understood, and deny: ")


def test_too_many_patterns_are_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is compiled by every worker that needs it."""
    monkeypatch.setattr(limits, "POLICY_PATTERNS", 1)
    patterns = [{"Action": "deny", "HTTP": {"PathRegex": f"/{n}"}} for n in range(2)]
    assert "more than 1 different patterns" in read(*patterns).note


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands; what is not in a list any more is forgotten."""
    reader = PermissionReader()
    first = reader.read([REST], "shop", "web", has_jwt=False)
    reader.read([ADMIN], "till", "web", has_jwt=False)
    reader.finish()
    others: list[str] = []
    monkeypatch.setattr(permissions, "read_permissions", lambda said, source, destination, *, has_jwt: others.append(source) or Permitted())
    assert reader.read([REST], "shop", "web", has_jwt=False) is first
    reader.finish()
    reader.read([REST], "shop", "web", has_jwt=True)
    reader.read([REST], "cart", "web", has_jwt=False)
    reader.read([ADMIN], "till", "web", has_jwt=False)
    assert ["shop", "cart", "till"] == others
