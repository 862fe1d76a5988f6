"""Judgements on the catalog, each with what makes it."""

import pytest

from nodeagent.diagnose import catalog
from nodeagent.diagnose.facts import CatalogLink, Enrolment, HealthCheck, LocalService, TokenRights
from tests.unit.nodeagent.diagnose.verdicts import only, shown

GOOD = Enrolment("host1", is_registered=True, is_marked=True)
WEB = LocalService("web", ("10.0.0.1",), 80, ("0.0.0.0",))


@pytest.mark.parametrize(
    ("link", "level"),
    [
        (CatalogLink("https://c:1"), "ok"),
        (CatalogLink("https://c:1", "nobody listens there"), "failed"),
        (CatalogLink("https://c:1", is_pinned=False), "warning"),
        (CatalogLink("http://c:1", is_tls=False, is_pinned=False), "failed"),
        (CatalogLink("http://127.0.0.1:1", is_tls=False, is_pinned=False, is_loopback=True), "ok"),
    ],
)
def test_the_way_to_it(link: CatalogLink, level: str) -> None:
    """Answers, and nobody else does in its name."""
    assert only(catalog.judge_link(link))[0] == level


def test_an_agent_of_consuls_without_servers_has_another_cure() -> None:
    found = only(catalog.judge_link(CatalogLink("http://127.0.0.1:8500", "it has no servers: 500", is_headless=True)))
    assert (found[0], "consul members" in found[2]) == ("failed", True)


@pytest.mark.parametrize(
    ("token", "level", "text"),
    [
        (TokenRights("host1", node="host1", services=("web",)), "ok", "web"),
        (TokenRights("host1", error="403"), "failed", "not taken"),
        (TokenRights("host1", acls_off=True), "warning", "no token"),
        (TokenRights("host1", is_management=True), "warning", "management"),
        (TokenRights("host1", node="host2"), "failed", "is for host2"),
        (TokenRights("host1", node="host1", services=("web",), unspoken=("db",)), "failed", "db"),
        (TokenRights("host1"), "ok", "no service by name"),
        (TokenRights("host1", has_policies=True), "ok", "whom its policies name"),
    ],
)
def test_the_token(token: TokenRights, level: str, text: str) -> None:
    """This host's, and good for what runs here."""
    found = only(catalog.judge_token(token))
    assert found[0] == level
    assert text in found[1]


@pytest.mark.parametrize(("is_consul", "cure"), [(False, "catalog token create --node host1"), (True, "in Consul")])
def test_a_token_that_is_not_taken_is_made_anew_where_the_catalog_makes_them(cure: str, *, is_consul: bool) -> None:
    (found,) = catalog.judge_token(TokenRights("host1", error="403", is_consul=is_consul))
    assert cure in found.cure


@pytest.mark.parametrize(
    ("row", "levels"),
    [
        (GOOD, ["ok"]),
        (Enrolment("host1"), ["failed"]),
        (Enrolment("host1", is_registered=True), ["failed"]),
        (Enrolment("host1", is_registered=True, is_marked=True, missing=("10.0.0.2",), surplus=("10.0.0.9",)), ["failed", "warning"]),
        (Enrolment("host1", is_registered=True, is_marked=True, is_drained=True), ["warning", "ok"]),
    ],
)
def test_the_hosts_row(row: Enrolment, levels: list[str]) -> None:
    """As the host is."""
    assert [level for level, _, _ in shown(catalog.judge_enrolment(row))] == levels


def test_a_row_that_the_token_may_not_see_takes_a_right_and_no_restart() -> None:
    level, _, cure = only(catalog.judge_enrolment(Enrolment("host1", missing_rule='node "host1" { policy = "read" }')))
    assert (level, cure) == ("failed", 'give it node "host1" { policy = "read" }')


@pytest.mark.parametrize(
    ("service", "level", "text"),
    [
        (WEB, "ok", "listening where the catalog says: web"),
        (LocalService("web", ("10.0.0.1",), 80, is_answering=False), "warning", "nobody listens"),
        (LocalService("web", ("10.0.0.1",), 80, ("127.0.0.1",), is_answering=False), "warning", "listens at 127.0.0.1 alone"),
        (LocalService("web", ("127.0.0.1",), 80, ("127.0.0.1",), is_loopback=True), "warning", "call themselves"),
    ],
)
def test_a_service(service: LocalService, level: str, text: str) -> None:
    """There where callers are sent."""
    found = only(catalog.judge_services((service,)))
    assert found[0] == level
    assert text in found[1]


def test_a_check_that_goes_through_the_mesh_has_its_cure() -> None:
    """It flaps, or is well whatever becomes of the service."""
    found = list(catalog.judge_services((LocalService("web", ("10.0.0.1",), 80, looped=("service:web",)),)))
    assert [level for level, *_ in found] == ["warning", "ok"]
    assert "a stranger's (service:web)" in found[0].found
    assert "dial 127.0.0.1:80" in found[0].cure


def test_no_service() -> None:
    """That is well, too."""
    assert only(catalog.judge_services(())) == ("ok", "no service is registered here", "")


def test_a_check_that_does_not_pass_is_told_with_why() -> None:
    """The port may well be open: `listening` does not say that the application is well."""
    passing = HealthCheck("service:db", "db", "passing", "")
    refused = HealthCheck("service:web", "web", "critical", "HTTP GET http://127.0.0.1:80/: 503\n" + "x" * 1000)
    bare = HealthCheck("disk", "", "warning", "")
    found = shown(catalog.judge_health((passing, refused, bare)))
    assert [level for level, _, _ in found] == ["warning", "warning"]
    assert found[0][1].startswith("web is critical by its check service:web: HTTP GET http://127.0.0.1:80/: 503 xxx")
    assert len(found[0][1]) < 250
    assert found[1][1] == "this host is warning by its check disk"
    assert only(catalog.judge_health((passing,))) == ("ok", "1 check passes", "")
    assert only(catalog.judge_health(())) == ("ok", "no check is registered here", "")
