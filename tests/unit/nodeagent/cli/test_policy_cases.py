"""Cases of requests, and what entries make of them."""

from pathlib import Path

import pytest

from nodeagent.cli.policy_cases import Given, check_known, read_cases, run_case
from nodeagent.errors import PolicyError
from nodeagent.model.policy.cases import Case, Expected
from tests.support.routed_mesh import routed_mesh

TEXT = """
- name: the canary
  from: shop
  to: web
  method: GET
  path: /cart?x=1
  headers: {x-canary: "1"}
  expect: {verdict: allow, route: "Routes[0]", targets: {web subset v2: 100}, path: /cart?x=1}
- {from: shop, to: web, expect: {verdict: deny}}
"""


def given(path: str = "/", /, **expected) -> Given:
    return Given("f: case 1", Case(from_="shop", to="web", path=path, expect=Expected(**expected)))


def test_cases_are_read_in_their_order(tmp_path: Path) -> None:
    """Each with its place, and a name."""
    file = tmp_path / "cases.yaml"
    file.write_text(TEXT)
    one, other = read_cases([str(file)])
    assert ("the canary", {"x-canary": "1"}, {"web subset v2": 100.0}) == (str(one), one.case.headers, one.case.expect.targets)
    assert (f"{file}: case 2", "shop -> web GET /") == (other.place, str(other))
    assert [] == run_case(one, routed_mesh()).differences


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no case is there"),
        ("- a", "a case is an object"),
        ("- {from: shop, to: web}", "Expect: is missing"),
        ("- {from: shop, to: web, expect: {}}", "Expect: says nothing"),
        ("- {from: shop, to: web, expect: {verdct: allow}}", "did you mean Verdict"),
        ("- {from: shop, to: web, expect: {verdict: yes}}", "Verdict"),
        ("- {from: shop, to: web, path: a, expect: {verdict: allow}}", "no path of a request"),
        ("- {from: Shop, to: web, expect: {verdict: allow}}", "From"),
        ("- [", "cases.yaml"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, says: str) -> None:
    """All at once, with its place."""
    file = tmp_path / "cases.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError, match=says):
        read_cases([str(file)])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(PolicyError, match=r"none\.yaml: cannot be read"):
        read_cases([str(tmp_path / "none.yaml")])


@pytest.mark.parametrize(
    ("path", "expected", "differences"),
    [
        ("/", {"verdict": "allow"}, []),
        ("/", {"targets": {"web subset v1": 90, "web subset v2": 10}}, []),
        ("/", {"targets": {"web subset v1": 90}}, ["Targets: expected web subset v1 90 %, found web subset v1 90 %, web subset v2 10 %"]),
        ("/", {"targets": {"web subset v1": 89.99, "web subset v2": 10.01}}, ["Targets: expected web subset v1 89.99 %, web subset v2 10.01 %, found web subset v1 90 %, web subset v2 10 %"]),
        ("/", {"route": "Routes[0]"}, ["Route: expected Routes[0], found default"]),
        ("/", {"verdict": "refused"}, ["Verdict: expected refused, found allow (permission 1 of shop -> web (by request) (allow))"]),
        ("/admin", {"verdict": "deny"}, []),
        ("/api//x", {"path": "/x", "targets": {"api": 100}}, []),
        ("/api/x", {"path": "/api/x"}, ["Path: expected /api/x, found /x"]),
        ("/a%2fb", {"verdict": "refused"}, []),
        ("/a%2fb", {"route": "default", "path": "/", "targets": {"web": 100}}, ["Route: expected default, found none", "Targets: expected web 100 %, found none", "Path: expected /, found none"]),
    ],
)
def test_what_differs_is_told(path: str, expected: dict[str, object], differences: list[str]) -> None:
    """Each in a sentence; what is not expected may be anything."""
    assert differences == run_case(given(path, **expected), routed_mesh()).differences


def test_a_service_that_no_entry_knows_is_a_mistake() -> None:
    """It would be denied, as may be expected of another."""
    check_known([given(verdict="allow")], routed_mesh())
    with pytest.raises(PolicyError, match="f: case 1: no entry speaks of wep"):
        check_known([Given("f: case 1", Case(from_="shop", to="wep", expect=Expected(verdict="deny")))], routed_mesh())
