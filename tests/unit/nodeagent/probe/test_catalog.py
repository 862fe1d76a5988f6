"""Looking at a catalog."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from certs.local_ca import LocalCa
from nodeagent import limits
from nodeagent.control.report import CONSUL_AGENT
from nodeagent.diagnose.facts import Blind, HealthCheck
from nodeagent.errors import CatalogError, CatalogUnreachable
from nodeagent.probe import catalog
from nodeagent.probe.bounded import look
from nodeagent.probe.catalog import Reply, ahead_of, rights_in
from tests.unit.nodeagent.probe.scene import scope
from tests.unit.nodeagent.probe.scripted import Scripted, scripted
from tests.unit.nodeagent.probe.test_host import STATUS

MARK = {"nodeagent": "15008;v1"}
ROW = {"Node": "host1", "Address": "127.0.0.1", "TaggedAddresses": {"lan_ipv4": "127.0.0.1", "wan": "198.51.100.1"}, "Meta": MARK}


@pytest.fixture
def there() -> Iterator[Scripted]:
    """A catalog that knows nobody."""
    with scripted() as server:
        server.said["/v1/catalog/node/host1"] = (200, None)
        yield server


def test_a_catalog_that_answers(there: Scripted, tmp_path: Path) -> None:
    """It is asked with the host's token, which is told to nobody else."""
    token = tmp_path / "token"
    token.write_text("secret\n")
    link = catalog.link(scope(there.url, f'token_file = "{token}"\n'))
    assert link is not None
    assert (link.error, link.is_tls, link.is_pinned, link.is_loopback) == ("", False, False, True)
    assert there.tokens == ["secret"]
    assert catalog.link(scope(is_pre=True)) is None


def test_a_catalog_that_does_not_answer_says_why() -> None:
    """Also one whose CA cannot be read."""
    link = catalog.link(scope())
    assert link is not None
    assert "nobody listens there" in link.error
    link = catalog.link(scope("https://127.0.0.1:1", 'ca_file = "/none"\n'))
    assert link is not None
    assert (link.is_tls, link.is_pinned) == (True, True)
    assert link.error.startswith("catalog.ca_file /none")


def test_a_catalog_that_stalls_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """After CHECK_ANSWER_S."""
    monkeypatch.setattr(limits, "CHECK_ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(CatalogUnreachable, match="no answer in time; does it hang"):
        catalog.reply(scope(f"http://127.0.0.1:{server.getsockname()[1]}"), "/v1/x")


def test_what_a_token_may(there: Scripted) -> None:
    """Read from the catalog; refused; not asked for at all."""
    there.said["/v1/acl/token/self"] = (200, {"NodeIdentities": [{"NodeName": "host1"}], "ServiceIdentities": [{"ServiceName": "web"}]})
    there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW, "Services": {"x": {"ID": "x", "Service": "db"}}})
    rights = catalog.token(scope(there.url))
    assert rights is not None
    assert (rights.node, rights.services, rights.unspoken) == ("host1", ("web",), ("db",))
    there.said["/v1/acl/token/self"] = (403, "the token is unknown")
    rights = catalog.token(scope(there.url))
    assert rights is not None
    assert rights.error == 'the catalog answered 403: "the token is unknown"'
    there.said["/v1/acl/token/self"] = (401, "ACL support disabled")
    rights = catalog.token(scope(there.url))
    assert rights is not None
    assert rights.acls_off


def test_an_agent_that_lost_its_servers_says_nothing_of_the_token(there: Scripted) -> None:
    """Another token would help nobody."""
    lost = (500, "No known Consul servers")
    there.said |= {"/v1/acl/token/self": lost, "/v1/status/leader": lost}
    with pytest.raises(CatalogError, match="answered 500"):
        catalog.token(scope(there.url))
    link = catalog.link(scope(there.url))
    assert link is not None
    assert (link.is_headless, link.error) == (True, 'it has no servers: the catalog answered 500: "No known Consul servers"')


def test_tokens_of_other_kinds() -> None:
    """Management; any service; policies of Consul's own, which say nothing of names."""
    assert rights_in("h", {"Policies": [{"Name": "global-management"}]}, ["db"]).is_management
    anything = rights_in("h", {"NodeIdentities": [{"NodeName": "h"}], "ServiceIdentities": [{"ServiceName": "*"}]}, ["db"])
    assert (anything.node, anything.unspoken) == ("h", ())
    policies = rights_in("h", {"Policies": [{"Name": "web-policy"}], "NodeIdentities": None}, ["db"])
    assert (policies.unspoken, policies.has_policies) == ((), True)


def test_the_hosts_row(there: Scripted) -> None:
    """Compared with the file; addresses of other networks do not count."""
    said = catalog.enrolment(scope(there.url))
    assert said is not None
    assert not said.is_registered
    there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW, "Services": {}})
    there.said["/v1/health/node/host1"] = (200, [{"CheckID": "serfHealth", "Status": "passing"}])
    said = catalog.enrolment(scope(there.url))
    assert said is not None
    assert (said.is_registered, said.is_marked, said.missing, said.surplus, said.is_drained) == (True, True, ("192.0.2.1",), (), False)
    there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW | {"Meta": None, "Address": "10.0.0.9"}, "Services": {}})
    there.said["/v1/health/node/host1"] = (200, [{"CheckID": "_node_maintenance", "Status": "critical"}])
    said = catalog.enrolment(scope(there.url))
    assert said is not None
    assert (said.is_marked, said.surplus, said.is_drained) == (False, ("10.0.0.9",), True)


def test_the_hosts_row_where_a_consul_agent_keeps_it(there: Scripted) -> None:
    """Mark and further addresses are in the service of our agent, which is no service to listen for."""
    agent = {
        "ID": "nodeagent", "Service": "nodeagent", "Port": 15008, "Meta": {"nodeagent": "15008;v1"},
        "TaggedAddresses": {"lan_ipv4": {"Address": "192.0.2.1", "Port": 15008}},
    }  # fmt: skip
    there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW | {"Meta": None}, "Services": {"nodeagent": agent}})
    there.said["/v1/health/node/host1"] = (200, [])
    said = catalog.enrolment(scope(there.url))
    assert said is not None
    assert (said.is_marked, said.missing) == (True, ())
    assert catalog.services(scope(there.url)) == ()


def test_services_are_held_against_listeners(there: Scripted) -> None:
    """At the address that they say, or at those of the host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        rows = {
            "own": {"ID": "own", "Service": "own", "Address": "", "Port": port},
            "loop": {"ID": "loop", "Service": "loop", "Address": "127.0.0.1", "Port": port},
            "none": {"ID": "none", "Service": "none", "Address": "10.0.0.1", "Port": 1},
            "consul": {"ID": "consul", "Service": "consul", "Port": 8300},
            "portless": {"ID": "portless", "Service": "portless", "Port": 0},
        }
        there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW, "Services": rows})
        found = {each.id: each for each in catalog.services(scope(there.url)) or ()}
    assert set(found) == {"own", "loop", "none"}
    assert (found["loop"].is_answering, found["loop"].is_loopback) == (True, True)
    assert (found["own"].is_answering, found["own"].heard) == (False, ("127.0.0.1",))
    assert (found["none"].is_answering, found["none"].heard, found["none"].is_loopback) == (False, (), False)


def test_checks_of_consuls_agent_that_are_captured_are_found(there: Scripted) -> None:
    """Not those of our own agent, which is let through, as the embedded catalog's are."""
    there.said["/v1/health/node/host1"] = (200, [{"CheckID": "c", "ServiceID": "web", "Type": "tcp", "Output": "TCP connect 127.0.0.1:9000: Success"}])
    web = {"ID": "web", "Service": "web", "Address": "", "Port": 9000}
    for agent, looped in ({"nodeagent": {"ID": "nodeagent", "Service": "nodeagent", "Port": 15008}}, ("c",)), ({}, ()):
        there.said["/v1/catalog/node/host1"] = (200, {"Node": ROW, "Services": {"web": web, **agent}})
        (found,) = catalog.services(scope(there.url)) or ()
        assert found.looped == looped


def test_what_its_checks_say(there: Scripted) -> None:
    """All but that it is drained."""
    web = {"CheckID": "service:web", "ServiceID": "web", "Status": "critical", "Output": "refused"}
    there.said["/v1/health/node/host1"] = (200, [web, {"CheckID": "_node_maintenance", "Status": "critical"}, {"CheckID": "disk", "Status": "passing"}])
    assert catalog.health(scope(there.url)) == (HealthCheck("service:web", "web", "critical", "refused"), HealthCheck("disk", "", "passing", ""))


def test_a_host_that_the_catalog_does_not_know_has_no_services() -> None:
    """404 is an answer."""
    with scripted() as there:
        assert catalog.services(scope(there.url)) == ()


def test_what_consul_leaves_out_for_the_token_is_not_taken_for_nothing(there: Scripted) -> None:
    """Read as empty it would be well: no service, no check."""
    rule = 'node "host1" { policy = "read" }'
    there.said["/v1/health/node/host1"] = (200, [])
    for allow, missing in (True, ""), (False, rule):
        there.said["/v1/internal/acl/authorize"] = (200, [{"Resource": "node", "Segment": "host1", "Access": "read", "Allow": allow}])
        said = catalog.enrolment(scope(there.url))
        assert said is not None
        assert (said.is_registered, said.missing_rule) == (False, missing)
    for probe in catalog.services, catalog.health:
        with pytest.raises(CatalogError, match=f"may not see it: give it {rule}"):
            probe(scope(there.url))


def test_the_clock_of_the_catalog(there: Scripted) -> None:
    """By its Date; the header counts whole seconds."""
    there.date = "Mon, 12 Jan 1970 13:46:40 GMT"  # 1,000,000 s
    clock = catalog.clock(scope(there.url, now=lambda: 1_000_100.0))
    assert clock is not None
    assert (clock.ahead_s, clock.within_s) == (99.5, 0.5)
    slow = ahead_of(Reply(200, b"", there.date, 1_000_000.0, 1_000_004.0))
    assert (slow.ahead_s, slow.within_s) == (1.5, 2.5)
    with pytest.raises(CatalogError, match="bears no date"):
        ahead_of(Reply(200, b"", "", 0, 0))


def test_whoever_is_not_believed_is_asked_for_the_date_alone(there: Scripted, tmp_path: Path) -> None:
    """And never sees the token."""
    token, cert = tmp_path / "token", tmp_path / "cert.pem"
    token.write_text("secret\n")
    ca = LocalCa.create("11111111-2222-3333-4444-555555555555.consul", datetime.now(UTC))
    cert.write_text(ca.cert_pem + ca.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    there.socket = context.wrap_socket(there.socket, server_side=True)
    seen = scope(there.url.replace("http:", "https:"), f'token_file = "{token}"\n')
    with pytest.raises(CatalogUnreachable, match="certificate is not accepted"):
        catalog.reply(seen, "/v1/status/leader")
    there.date = "Mon, 12 Jan 1970 13:46:40 GMT"
    assert catalog.clock(seen) == catalog.Clock(-0.5, 0.5)
    assert there.tokens == [""]


@pytest.mark.parametrize("garbage", [["x"], {"Node": "x", "Services": 7}, {"Services": {"a": {"Port": 1}}}, "x" * 100, 7])
def test_a_catalog_that_talks_nonsense_is_told_as_such(there: Scripted, garbage: object) -> None:
    """Nothing is judged by it, nothing raises."""
    there.said["/v1/catalog/node/host1"] = there.said["/v1/acl/token/self"] = (200, garbage)
    seen = scope(there.url)
    found = look({"token": lambda: catalog.token(seen), "row": lambda: catalog.enrolment(seen), "services": lambda: catalog.services(seen)}, 20)
    assert {name for name, fact in found.items() if isinstance(fact, Blind)} >= {"services"}
    assert all("makes no sense" in fact.why or "404" in fact.why for fact in found.values() if isinstance(fact, Blind))


def test_a_token_in_the_environment_is_the_one_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
    table = scope(more='token_file = "env:CONSUL_HTTP_TOKEN"\n').settings.catalog
    assert catalog._token(table) == "of-the-environment"


@pytest.mark.parametrize("found", [[], [CONSUL_AGENT]])
def test_whose_token_is_not_taken_the_agent_knows(there: Scripted, found: list[str]) -> None:
    there.said["/v1/acl/token/self"] = (403, "ACL not found")
    status = replace(STATUS, catalog=replace(STATUS.catalog, found=found))
    told = catalog.token(scope(there.url, status=status))
    assert told is not None
    assert ("ACL not found" in told.error, told.is_consul) == (True, bool(found))
