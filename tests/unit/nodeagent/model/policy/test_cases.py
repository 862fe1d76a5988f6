"""Cases of requests."""

from nodeagent.model.policy.cases import Case, Expected


def test_a_case_needs_a_pair_and_what_is_expected() -> None:
    """The request is a plain one, where nothing else is said."""
    case = Case(from_="shop", to="web", expect=Expected(verdict="allow"))
    assert ("GET", "/", {}, "") == (case.method, case.path, case.headers, case.name)
