"""Which requests of a pair are allowed."""

import pytest

from nodeagent.decide.requests import authorize_request, request_rule
from nodeagent.errors import Denied
from nodeagent.model.policy.intentions import JwtNeed, JwtSource, Permission, PermissionMatch
from tests.support.requests import view

ADMIN = Permission(action="deny", http=PermissionMatch(path_prefix="/admin"))
READ = Permission(action="allow", http=PermissionMatch(methods=("GET", "HEAD")))
TOKEN = JwtNeed(providers=(JwtSource(name="okta"),))
BY = "shop -> web (deny)"


@pytest.mark.parametrize(
    ("permissions", "line", "by"),
    [
        ([ADMIN, READ], "GET /x", f"permission 1 of {BY} (allow)"),
        ([READ, ADMIN], "GET /admin", f"permission 0 of {BY} (allow)"),
        ([READ], "HEAD /", f"permission 0 of {BY} (allow)"),
    ],
)
def test_the_first_that_matches_allows(permissions: list[Permission], line: str, by: str) -> None:
    """The permit names it."""
    assert by == authorize_request(request_rule(permissions, BY), view(line)).by


@pytest.mark.parametrize(
    ("permissions", "line", "says"),
    [
        ([ADMIN, READ], "GET /admin/x", "permission 0 of shop -> web"),
        ([ADMIN, READ], "GET //x/..//%61dmin", "permission 0 of shop -> web"),
        ([ADMIN, READ], "POST /x", "of which no permission matches"),
        ([], "GET /", "shop -> web"),
        ([Permission(action="allow", jwt=TOKEN)], "GET /", "needs a token"),
        ([Permission(action="deny", http=ADMIN.http, jwt=TOKEN), READ], "GET /admin", "needs a token"),
        ([Permission(action="allow", http=READ.http, jwt=TOKEN), READ], "GET /", "needs a token"),
    ],
)
def test_everything_else_is_denied_by_name(permissions: list[Permission], line: str, says: str) -> None:
    """What no permission speaks of, and what needs a token that nobody can check yet."""
    with pytest.raises(Denied, match=says):
        authorize_request(request_rule(permissions, BY), view(line))


def test_an_intention_without_permissions_is_for_all_requests() -> None:
    """Its action decides."""
    rule = request_rule((), "shop -> web (allow)", is_allowed_otherwise=True)
    assert "shop -> web (allow)" == authorize_request(rule, view("BREW /x")).by
    assert not rule.reads_path


def test_paths_are_normal_where_any_permission_reads_them() -> None:
    """The one that decides may be another."""
    assert request_rule([READ, ADMIN], BY).reads_path
    assert not request_rule([READ], BY).reads_path
