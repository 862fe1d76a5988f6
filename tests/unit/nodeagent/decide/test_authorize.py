"""Who may call whom."""

import dataclasses
import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.decide.authorize import Permit, authorize, deciding_intention
from nodeagent.errors import Denied
from nodeagent.model.action import Action
from nodeagent.model.intention import Intention
from tests.support.by_request import by_request
from tests.support.mesh import mesh

NAMES = ("shop", "web", "cart")
PATTERNS = (*NAMES, "*")


@pytest.mark.parametrize(
    ("intentions", "by"),
    [
        (["shop -> web allow"], "shop -> web (allow)"),
        (["* -> web deny", "shop -> web allow"], "shop -> web (allow)"),
        (["shop -> * deny", "* -> web allow"], "* -> web (allow)"),
        (["* -> * deny", "shop -> * allow"], "shop -> * (allow)"),
        (["* -> * allow"], "* -> * (allow)"),
    ],
)
def test_the_most_specific_allow_permits(intentions: list[str], by: str) -> None:
    """Exact before wildcard, destination before source; the permit names the intention."""
    assert Permit("shop", "web", by) == authorize(mesh(*intentions), "shop", "web")


@pytest.mark.parametrize(
    ("intentions", "by"),
    [
        ([], "default deny"),
        (["cart -> web allow", "shop -> cart allow"], "default deny"),
        (["shop -> web deny", "* -> web allow"], r"shop -> web \(deny\)"),
        (["* -> web deny", "shop -> * allow", "* -> * allow"], r"\* -> web \(deny\)"),
        (["shop -> * deny", "* -> * allow"], r"shop -> \* \(deny\)"),
        (["shop -> web allow", "shop -> web deny"], r"shop -> web \(deny\)"),
    ],
)
def test_everything_else_is_denied_by_name(intentions: list[str], by: str) -> None:
    """The refusal names what said no and the command that changes it; deny wins at equal rank."""
    with pytest.raises(Denied, match=by) as refusal:
        authorize(mesh(*intentions), "shop", "web")
    assert "nodeagent intention allow shop web" in str(refusal.value)


@pytest.mark.parametrize("rows", [*itertools.permutations(["allow", "deny", "allow"])])
def test_deny_wins_at_equal_rank_however_the_rows_stand(rows: tuple[Action, ...]) -> None:
    """The compiler puts it first; the decision does not hang on that."""
    snapshot = mesh()
    same = tuple(Intention("shop", "web", action) for action in rows)
    web = msgspec.structs.replace(snapshot.services["web"], intentions=same)
    decider = deciding_intention(dataclasses.replace(snapshot, services={**snapshot.services, "web": web}), "shop", "web")
    assert decider is not None
    assert decider.action == "deny"


@pytest.mark.parametrize(("source", "destination"), [("", "web"), ("*", "web"), ("shop", "ghost"), ("shop", "*"), ("", "")])
def test_who_is_no_service_gets_no_permit(source: str, destination: str) -> None:
    """Even where all is allowed, a name that no service can have, or that is unknown, is refused."""
    with pytest.raises(Denied):
        authorize(mesh("* -> * allow"), source, destination)


def oracle(rows: set[tuple[str, str, str]], source: str, destination: str) -> bool:
    """The same rules written another way: four look-ups, the first that finds anything decides."""
    for by_destination, by_source in itertools.product((destination, "*"), (source, "*")):
        actions = {action for s, d, action in rows if (s, d) == (by_source, by_destination)}
        if actions:
            return actions == {"allow"}
    return False


@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS), st.sampled_from(("allow", "deny"))), max_size=12),
    st.randoms(use_true_random=False),
)
def test_any_set_of_intentions_decides_as_the_oracle_says(rows: list[tuple[str, str, str]], chance: object) -> None:
    """Whatever the set and the order in which it came, every pair is decided as by an evaluator written apart."""
    shuffled = list(rows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (mesh(*(f"{s} -> {d} {action}" for s, d, action in order)) for order in (rows, shuffled))
    assert one == other
    for source, destination in itertools.product(NAMES, NAMES):
        allowed = oracle(set(rows), source, destination)
        decider = deciding_intention(one, source, destination)
        assert allowed == (decider is not None and decider.action == "allow")
        if allowed:
            assert str(decider) == authorize(one, source, destination).by
        else:
            with pytest.raises(Denied):
                authorize(one, source, destination)


def test_permissions_admit_connections_whose_requests_are_read() -> None:
    """Of a service that speaks HTTP/1.1; the permit says that they are decided one by one."""
    snapshot = by_request("shop -> web")
    assert Permit("shop", "web", "shop -> web (by request)", is_by_request=True) == authorize(snapshot, "shop", "web")
    assert not authorize(mesh("shop -> web allow"), "shop", "web").is_by_request
    with pytest.raises(Denied, match="no agent reads the requests on the way to web"):
        authorize(snapshot, "shop", "web", is_read=False)


@pytest.mark.parametrize("protocol", ["tcp", "http2", "grpc"])
def test_permissions_deny_where_nobody_reads_requests(protocol: str) -> None:
    """Whatever less specific intentions say."""
    with pytest.raises(Denied, match=rf"\(by request\) denies shop -> web; web speaks {protocol}, and requests are read of services that speak http"):
        authorize(by_request("shop -> web", "* -> web allow", protocol=protocol), "shop", "web")


def test_a_plain_deny_of_the_same_rank_goes_first() -> None:
    with pytest.raises(Denied, match=r"shop -> web \(deny\)"):
        authorize(by_request("shop -> web", "shop -> web deny"), "shop", "web")
    assert authorize(by_request("shop -> web", "shop -> web allow"), "shop", "web").is_by_request
