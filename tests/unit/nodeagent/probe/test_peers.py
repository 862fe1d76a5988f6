"""Handshakes with peers, over real TLS."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from certs.bundle import TrustBundle
from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.spiffe import service_id
from nodeagent import limits
from nodeagent.control.report import InstancePart, ServicePart, ServicesAnswer
from nodeagent.control.trust import Trust
from nodeagent.errors import CatalogError
from nodeagent.model.service import Host
from nodeagent.probe import peers
from nodeagent.probe.peers import Question, around, meet, services_by_host
from tests.unit.nodeagent.probe.scene import scope
from tests.unit.nodeagent.probe.scripted import scripted
from tests.unit.nodeagent.probe.test_host import STATUS

DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ca() -> LocalCa:
    """The mesh's."""
    return LocalCa.create(DOMAIN, NOW)


@contextmanager
def peer(ca: LocalCa, service: str, tmp_path: Path) -> Iterator[int]:
    """The port of somebody who proves to be `service`, and demands a certificate in turn."""
    spiffe_id = service_id(DOMAIN, "dc1", service)
    made = new_key_and_csr(spiffe_id)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(ca.sign(made.csr_pem, spiffe_id, timedelta(hours=1), NOW))
    key.write_text(made.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.load_verify_locations(cadata=ca.cert_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_welcome, args=(server, context))
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def _welcome(server: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = server.accept()
    try:
        context.wrap_socket(connection, server_side=True).close()
    except ssl.SSLError:
        pass
    finally:
        connection.close()


def ask(ca: LocalCa, port: int, service: str = "web", now: datetime = NOW) -> peers.Peer:
    """What a handshake gives."""
    host = Host("host2", ("127.0.0.1",), port)
    return meet(Question(host, service), Trust(TrustBundle(DOMAIN, (ca.cert_pem,)), "r", frozenset({"r"})), "dc1", now.timestamp())


def test_a_peer_proves_who_it_is_although_we_do_not(ca: LocalCa, tmp_path: Path) -> None:
    """TLS 1.3's server speaks first."""
    with peer(ca, "web", tmp_path) as port:
        assert ask(ca, port).identity == f"spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web"


def test_a_peer_that_is_somebody_else_is_not_believed(ca: LocalCa, tmp_path: Path) -> None:
    """Both names are told."""
    with peer(ca, "shop", tmp_path) as port:
        assert "svc/shop, and" in ask(ca, port).distrusted


def test_a_peer_of_another_ca_is_not_believed(ca: LocalCa, tmp_path: Path) -> None:
    """Whatever it says."""
    with peer(LocalCa.create(DOMAIN, NOW), "web", tmp_path) as port:
        assert "not of the mesh's CA" in ask(ca, port).distrusted


def test_a_peer_that_has_expired_by_our_clock_is_not_believed(ca: LocalCa, tmp_path: Path) -> None:
    """Which may be ours that is wrong: the group time tells."""
    with peer(ca, "web", tmp_path) as port:
        assert "expired" in ask(ca, port, now=NOW + timedelta(hours=2)).distrusted


def test_a_peer_without_a_service_is_connected_to() -> None:
    """There is no name to ask for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = meet(Question(Host("host2", ("127.0.0.1",), server.getsockname()[1]), ""), None, "dc1", 0)  # type: ignore[arg-type]
        assert (found.identity, found.unreached, found.distrusted) == ("", "", "")


def test_a_peer_that_is_not_there_or_stalls(ca: LocalCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second for CHECK_PEER_S."""
    assert "refused" in ask(ca, 1).unreached
    monkeypatch.setattr(limits, "CHECK_PEER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "timed out" in ask(ca, server.getsockname()[1]).unreached


def test_a_host_begins_with_those_that_follow_it() -> None:
    """So that not all hosts of a mesh look at the same few."""
    hosts = [Host(name, (), 15008) for name in "dbac"] + [Host("e", (), 0)]
    assert [host.name for host in around("b", hosts)] == ["c", "d", "a"]


def test_a_host_is_asked_as_one_of_its_services() -> None:
    """Only where it has an agent."""
    parts = [InstancePart(id="w", host=host, addresses=[], healthy=True, is_local=False, is_meshed=host == "b") for host in "ab"]
    answer = ServicesAnswer(generation=1, services=[ServicePart(name="web", protocol="tcp", mode="strict", instances=parts, intentions=[])], wildcards=[])
    assert services_by_host(answer) == {"b": "web"}


def test_no_more_than_so_many_are_looked_at(ca: LocalCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted."""
    monkeypatch.setattr(limits, "CHECK_PEERS", 2)
    monkeypatch.setattr(limits, "CHECK_PEER_S", 0.5)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    answer = ServicesAnswer(generation=1, services=[], wildcards=[])
    with scripted() as there:
        there.said["/v1/health/service/nodeagent"] = (200, [])
        there.said["/v1/catalog/nodes"] = (200, [{"Node": f"h{n}", "Address": "127.0.0.1", "Meta": {"nodeagent": "1;v1"}} for n in range(5)])
        root = {"ID": "r", "RootCert": ca.cert_pem}
        there.said["/v1/connect/ca/roots"] = (200, {"ActiveRootID": "r", "TrustDomain": DOMAIN, "Roots": [root]})
        found = peers.peers(scope(there.url, status=STATUS, ask_agent=lambda _path, _kind: answer))
    assert found is not None
    assert [(each.host, "refused" in each.unreached) for each in found.seen] == [("h0", True), ("h1", True)]
    assert found.unseen == 3
    assert peers.peers(scope()) is None


def test_where_consuls_agents_keep_the_hosts_rows_a_service_says_that_there_is_an_agent(ca: LocalCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node meta says nothing there: no peer would be looked at."""
    monkeypatch.setattr(limits, "CHECK_PEER_S", 0.5)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with scripted() as there:
        row = {"Node": "h1", "Address": "127.0.0.1", "Meta": {}}
        agent = {"ID": "nodeagent", "Service": "nodeagent", "Port": 1, "Meta": {"nodeagent": "1;v1"}}
        there.said["/v1/catalog/nodes"] = (200, [row])
        there.said["/v1/health/service/nodeagent"] = (200, [{"Node": row, "Service": agent, "Checks": []}])
        root = {"ID": "r", "RootCert": ca.cert_pem}
        there.said["/v1/connect/ca/roots"] = (200, {"ActiveRootID": "r", "TrustDomain": DOMAIN, "Roots": [root]})
        answer = ServicesAnswer(generation=1, services=[], wildcards=[])
        found = peers.peers(scope(there.url, status=STATUS, ask_agent=lambda _path, _kind: answer))
    assert found is not None
    assert [each.host for each in found.seen] == ["h1"]


def test_where_the_token_may_see_no_host_that_there_is_none_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with scripted() as there:
        there.said |= {"/v1/catalog/nodes": (200, []), "/v1/health/service/nodeagent": (200, [])}
        there.said["/v1/internal/acl/authorize"] = (200, [{"Resource": "node", "Segment": "x", "Access": "read", "Allow": False}])
        with pytest.raises(CatalogError, match=r'give it node_prefix "" \{ policy'):
            peers.peers(scope(there.url, status=STATUS))


@pytest.mark.parametrize(("in_force", "distrusted"), [(DOMAIN, True), ("other.consul", False)])
def test_while_another_trust_domain_is_in_force_than_the_catalog_tells_nobody_is_called_unbelieved(
    ca: LocalCa, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_force: str, *, distrusted: bool
) -> None:
    """Agents hold the one of before for a while: by the catalog's roots each would fail."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    part = InstancePart(id="w", host="h1", addresses=[], healthy=True, is_local=False, is_meshed=True)
    services = [ServicePart(name="web", protocol="tcp", mode="strict", instances=[part], intentions=[])]
    answer = ServicesAnswer(generation=1, services=services, wildcards=[])
    status = replace(STATUS, identity=replace(STATUS.identity, trust_domain=in_force))
    other = LocalCa.create(DOMAIN, NOW)
    with scripted() as there, peer(ca, "web", tmp_path) as port:
        there.said["/v1/health/service/nodeagent"] = (200, [])
        there.said["/v1/catalog/nodes"] = (200, [{"Node": "h1", "Address": "127.0.0.1", "Meta": {"nodeagent": f"{port};v1"}}])
        root = {"ID": "r", "RootCert": other.cert_pem}
        there.said["/v1/connect/ca/roots"] = (200, {"ActiveRootID": "r", "TrustDomain": DOMAIN, "Roots": [root]})
        found = peers.peers(scope(there.url, status=status, ask_agent=lambda _path, _kind: answer, now=NOW.timestamp))
    assert found is not None
    assert [(each.unreached, bool(each.distrusted)) for each in found.seen] == [("", distrusted)]


def test_only_root_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody else would be refused by the agent of his own host, and blame the others."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PermissionError, match="only root"):
        peers.peers(scope(status=STATUS))
