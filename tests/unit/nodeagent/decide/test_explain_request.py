"""Why a request goes where it goes."""

from dataclasses import replace

import msgspec
import pytest

from nodeagent.decide.explain_request import Leased, explain_request, with_shared
from nodeagent.model.explanation import RequestExplanation
from nodeagent.model.intention import Intention
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.policy.resolving import Failover, LoadBalancer
from nodeagent.model.policy.routing import Route
from nodeagent.model.policy.values import Duration, HeaderEdits
from nodeagent.model.snapshot import Snapshot
from tests.support.requests import head
from tests.support.routed_mesh import SUBSETS, routed_mesh
from tests.support.routes import resolver, router, split, splitter, to


def explain(line: str = "GET /", *fields: str, source: str = "shop", made: Snapshot | None = None, destination: str = "web") -> RequestExplanation:
    return explain_request(made or routed_mesh(), source, destination, head(line, *fields))


def said(answer: RequestExplanation) -> list[str]:
    """Steps in a line each."""
    return [f"{step.what}: {step.text}" for step in (*answer.steps, *(each for leg in answer.legs for each in leg.steps))]


def test_a_split_has_its_legs_with_their_instances() -> None:
    """Each with its share, its health, and what the intention says there."""
    answer = explain("GET /cart?x=1")
    assert ("default", "/cart?x=1", True) == (answer.route, answer.path, answer.passes)
    assert [(90.0, "web subset v1", "allow"), (10.0, "web subset v2", "allow")] == [(leg.percent, leg.target, leg.verdict) for leg in answer.legs]
    assert [("i1", "ok"), ("i2", "unhealthy")] == [(each.id, each.state) for each in answer.legs[0].candidates]
    assert [("i3", "drained", 1), ("i4", "ok", 5)] == [(each.id, each.state, each.weight) for each in answer.legs[1].candidates]
    assert said(answer) == [
        "router: Routes[0] does not match: header x-canary",
        "router: Routes[1] does not match: path prefix /api/",
        "router: no route matches",
        "splitter: of web: 90 % to web subset v1",
        "splitter: of web: 10 % to web subset v2",
    ]


def test_a_route_that_matches_is_told_and_none_after_it() -> None:
    """The canary's."""
    answer = explain("GET /", "X-Canary: 1")
    assert ("Routes[0]", ["web subset v2"]) == (answer.route, [leg.target for leg in answer.legs])
    assert ["router: Routes[0] matches: header x-canary"] == said(answer)


@pytest.mark.parametrize(
    ("line", "verdict", "why"),
    [
        ("GET /", "allow", "permission 1 of shop -> web (by request) (allow)"),
        ("GET /admin", "deny", "permission 0 of shop -> web (by request) (deny) denies the request"),
        ("GET /x/..//%61dmin/y", "deny", "permission 0 of shop -> web (by request) (deny) denies the request"),
        ("POST /", "deny", "shop -> web (by request), of which no permission matches, denies the request"),
    ],
)
def test_the_intention_is_asked_for_each_leg(line: str, verdict: str, why: str) -> None:
    """With the path as it is read."""
    answer = explain(line)
    assert {(verdict, why)} == {(leg.verdict, leg.why) for leg in answer.legs}
    assert answer.passes == (verdict == "allow")


def test_a_leg_to_another_service_is_decided_by_that_one() -> None:
    """Of the request as it comes there."""
    answer = explain("POST /api/admin")
    assert [("api", "/admin", "allow", "shop -> api (allow)")] == [(leg.target, leg.path, leg.verdict, leg.why) for leg in answer.legs]
    made = routed_mesh()
    rule = (Permission(action="deny", http=PermissionMatch(path_exact="/admin")), Permission(action="allow", http=PermissionMatch(path_prefix="/")))
    api = msgspec.structs.replace(made.services["api"], intentions=(Intention("shop", "api", "deny", rule),))
    denied = explain("POST /api/admin", made=replace(made, services={**made.services, "api": api}))
    assert ["deny"] == [leg.verdict for leg in denied.legs]
    assert "path: goes on as /admin" in said(denied)


def test_what_happens_on_a_leg_is_told() -> None:
    """Headers, times, retries, balancer, failover."""
    edit = HeaderEdits(set_={"X-B": "1"}, remove=("x-a",))
    balancer = LoadBalancer(policy="maglev")
    traffic = msgspec.structs.replace(
        routed_mesh().services["web"].traffic,
        router=router("web", Route(destination=to(request_timeout=Duration(10**9), num_retries=2, retry_on=("5xx",), request_headers=edit, response_headers=edit))).router,
        splitter=None,
        resolver=resolver("web", subsets=SUBSETS, load_balancer=balancer, connect_timeout=Duration(10**9), failover={"*": Failover(service="api")}).resolver,
    )
    lines = said(explain("GET /", made=routed_mesh(traffic=traffic)))
    assert [
        "router: Routes[0] matches: every request",
        "failover: to api",
        "headers: of the request: x-a, x-b",
        "headers: of the answer: x-a, x-b",
        "times: request 1 s, connect 1 s, 2 retries for 5xx",
        "balancer: maglev",
        "failover: api stands in, with 1 healthy",
    ] == lines


def test_a_leg_that_leads_nowhere_says_why() -> None:
    """And the request does not pass."""
    traffic = splitter("web", split(50, "ghost"), split(50))
    answer = explain(made=routed_mesh(traffic=traffic))
    assert [("refused", "no service ghost is known here"), ("allow", "permission 1 of shop -> web (by request) (allow)")] == [(leg.verdict, leg.why) for leg in answer.legs]
    assert not answer.passes


def test_a_request_passes_only_to_who_is_healthy() -> None:
    """An allow alone is not enough."""
    made = routed_mesh(instances=())
    answer = explain(made=made)
    assert ["allow", "allow"] == [leg.verdict for leg in answer.legs]
    assert not answer.passes


def test_who_stands_in_is_who_is_told_of() -> None:
    """With its own word about the caller, as it is who is called."""
    traffic = resolver("web", failover={"*": Failover(service="api")})
    answer = explain(made=routed_mesh(traffic=traffic, instances=()))
    (leg,) = answer.legs
    assert [("api", "ok")] == [(each.stand_in, each.state) for each in leg.candidates]
    assert (leg.verdict, leg.why, answer.passes) == ("allow", "shop -> api (allow)", True)
    assert not any(each.stand_in for each in explain(made=routed_mesh(traffic=traffic)).legs[0].candidates)


@pytest.mark.parametrize(
    ("facts", "line", "source", "text"),
    [
        ({}, "GET /a%2fb", "shop", "bad_message: the path has an escaped slash"),
        ({"traffic": None}, "GET /", "shop", "goes to the instance that is dialled: web has no service-router"),
        ({"protocol": "tcp"}, "GET /", "shop", "web speaks tcp: its requests are not read"),
        ({"mode": "observe"}, "GET /", "shop", "nothing of this is enforced"),
        ({}, "GET /a//b", "shop", "/a//b is /a/b to rules"),
        ({}, "GET /", "web", "web calls itself"),
    ],
)
def test_what_is_worth_knowing_is_told(facts: dict[str, object], line: str, source: str, text: str) -> None:
    """Why the path goes nowhere, or what is told may not be what happens."""
    assert any(text in step for step in said(explain(line, source=source, made=routed_mesh(**facts))))


def test_a_service_that_nobody_knows() -> None:
    """It is no destination of a request."""
    answer = explain(destination="ghost")
    assert ["no service ghost is known here"] == [leg.why for leg in answer.legs]
    assert not answer.passes


def test_a_permission_with_no_sound_pattern_denies_all() -> None:
    """It may be newer than this version."""
    rows = (Intention("shop", "web", "deny", (Permission(action="allow", http=PermissionMatch(path_regex="(?=a)")),)),)
    answer = explain(made=routed_mesh(intentions=rows))
    assert all(leg.verdict == "deny" and "no sound pattern" in leg.why for leg in answer.legs)


def test_one_of_several_reasons_why_an_instance_takes_nothing() -> None:
    """The most telling one."""
    made = routed_mesh(traffic=resolver("web", subsets=SUBSETS))
    gone = msgspec.structs.replace(made.services["web"].instances[0], gone=True, healthy=False)
    light = msgspec.structs.replace(made.services["web"].instances[0], weight=0)
    nowhere = msgspec.structs.replace(made.services["web"].instances[0], addresses=())
    answer = explain(made=routed_mesh(traffic=resolver("web", subsets=SUBSETS), instances=(gone, light, nowhere)))
    assert ["gone", "weight 0", "no address"] == [each.state for each in answer.legs[0].candidates]


def test_what_workers_know_is_told_too() -> None:
    """Of the same target alone: another caller, or a subset, is another matter."""
    made = routed_mesh(traffic=None)
    told = explain(made=made)
    leased = [Leased("web", "", "requests", 8, 7, 9), Leased("web", "v1", "requests", 8, 1, 1)]
    (leg,) = with_shared(told, {("web", "", "h1/i1"): 12.34, ("web", "v1", "h4/i4"): 5.0}, leased).legs
    assert {"i1": 12.3, "i2": 0.0, "i3": 0.0, "i4": 0.0} == {each.id: each.ejected_s for each in leg.candidates}
    assert ["8 requests of shop: its workers hold 7, and asked for 9"] == [step.text for step in leg.steps if step.what == "bound"]
