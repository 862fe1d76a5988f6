"""What nodeagent relies on of a real Consul 1.8.7: each of these shapes it judges an answer by."""

import base64
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nodeagent.control.consul import CONNECT_OFF
from tests.e2e.catalog_process import Client
from tests.e2e.support.catalogs import Asking
from tests.e2e.support.consul import Consul

SYNC_S = 90.0  # anti-entropy of a change takes about a second; after one that failed, as in the first moments, the next comes up to 30 s later
READER = 'node_prefix "" { policy = "read" } service_prefix "" { policy = "read" intentions = "deny" }'
AUTHORIZE = "/v1/internal/acl/authorize"
SHOP_TO_WEB = {"SourceName": "shop", "DestinationName": "web", "Action": "allow", "SourceType": "consul"}


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("deny"), acl=True) as running:
        yield running


@pytest.fixture(scope="module")
def client(consul):
    return consul.client()


def until(look):
    deadline = time.monotonic() + SYNC_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def header(answer, name):
    return {key.lower(): value for key, value in answer.headers.items()}.get(name.lower())


def test_a_kind_that_it_cannot_keep_is_named_in_the_refusal(client):
    """Reads answer 500 and writes 400: by the words alone it is told from a broken server."""
    read, write = client.get("/v1/config/service-intentions"), client.put("/v1/config", {"Kind": "service-intentions", "Name": "web"})
    assert (read.status, write.status) == (500, 400)
    assert all("invalid config entry kind" in answer.text for answer in (read, write))


def test_intentions_are_rows_with_ids_and_a_watch_hears_of_them(client):
    """Written, watched, changed and removed one by one; a second one of a pair is refused."""
    before = client.get("/v1/connect/intentions")
    asking = Asking(lambda: client.get(f"/v1/connect/intentions?index={before.index}&wait=50s"))
    id_ = client.ok("POST", "/v1/connect/intentions", SHOP_TO_WEB)["ID"]
    (row,) = asking.answer().json
    assert {"SourceNS": "default", "DestinationNS": "default", "Precedence": 9, "ID": id_}.items() | SHOP_TO_WEB.items() <= row.items()
    twice = client.call("POST", "/v1/connect/intentions", SHOP_TO_WEB)
    assert twice.status == 500
    assert "duplicate intention found" in twice.text
    client.ok("PUT", f"/v1/connect/intentions/{id_}", SHOP_TO_WEB | {"Action": "deny"})
    assert client.ok("GET", f"/v1/connect/intentions/{id_}")["Action"] == "deny"
    client.ok("DELETE", f"/v1/connect/intentions/{id_}")
    assert client.get(f"/v1/connect/intentions/{id_}").status == 404


def test_what_a_token_may_not_read_is_an_empty_list_and_a_match_is_403(consul, client):
    """The trap: 200, nothing, and no header says so. Only the question for one destination is refused."""
    id_ = client.ok("POST", "/v1/connect/intentions", SHOP_TO_WEB)["ID"]
    blind = consul.make_token("blind", READER)
    answer = client.get("/v1/connect/intentions", token=blind)
    assert (answer.status, answer.json, header(answer, "X-Consul-Results-Filtered-By-ACLs")) == (200, [], None)
    assert client.get("/v1/connect/intentions/match?by=destination&name=web", token=blind).status == 403
    assert client.get("/v1/connect/intentions/match?by=destination&name=not-there", token=blind).status == 403
    assert client.get("/v1/connect/intentions/match?by=destination&name=not-there").status == 200
    client.ok("DELETE", f"/v1/connect/intentions/{id_}")


def test_intentions_are_left_out_row_by_row_and_a_match_has_all_or_is_refused(consul, client):
    """Whoever may read anything is shown the rows of any source and destination; what others are denied there is not."""
    rows = [SHOP_TO_WEB, SHOP_TO_WEB | {"SourceName": "*", "DestinationName": "db"}]
    rows.append(SHOP_TO_WEB | {"SourceName": "api", "DestinationName": "db", "Action": "deny"})
    ids = [client.ok("POST", "/v1/connect/intentions", row)["ID"] for row in rows]
    half = consul.make_token("half", READER + ' service "web" { policy = "read" intentions = "read" }')
    shown = client.get("/v1/connect/intentions", token=half).json
    assert [(row["SourceName"], row["DestinationName"]) for row in shown] == [("shop", "web"), ("*", "db")]
    assert client.get("/v1/connect/intentions/match?by=destination&name=web", token=half).status == 200
    assert client.get("/v1/connect/intentions/match?by=destination&name=db", token=half).status == 403
    whole = client.ok("GET", "/v1/connect/intentions/match?by=destination&name=db")["db"]
    assert [(row["SourceName"], row["Action"]) for row in whole] == [("api", "deny"), ("*", "allow")]
    for id_ in ids:
        client.ok("DELETE", f"/v1/connect/intentions/{id_}")


def test_instances_that_a_token_may_not_read_are_no_instances_and_the_chain_is_403(consul, client):
    """Of services that are there and of others."""
    assert client.put("/v1/agent/service/register", {"Name": "till", "Port": 80}).status == 200
    blind = consul.make_token("no-till", 'node_prefix "" { policy = "read" } service "web" { policy = "read" }')
    until(lambda: client.ok("GET", "/v1/health/service/till"))
    answer = client.get("/v1/health/service/till", token=blind)
    assert (answer.status, answer.json) == (200, [])
    assert "till" not in client.get("/v1/catalog/services", token=blind).json
    statuses = {name: client.get(f"/v1/discovery-chain/{name}", token=blind).status for name in ("till", "web", "not-there")}
    assert statuses == {"till": 403, "web": 200, "not-there": 403}
    assert client.get("/v1/discovery-chain/not-there").status == 200
    client.put("/v1/agent/service/deregister/till")


def test_the_same_registration_again_is_no_change_and_another_is(tmp_path):
    """By ModifyIndex it is told who said something first; CreateIndex says nothing of what is said now."""
    with Consul(tmp_path, ae_interval="1s") as running:
        client, own = running.client(), {"Name": "nodeagent", "Port": 15008, "Address": "10.0.0.1"}

        def told(address):
            assert client.put("/v1/agent/service/register", own | {"Address": address}).status == 200
            return until(lambda: [s for s in service() if s["Address"] == address])[0]

        def service():
            return [row["Service"] for row in client.ok("GET", "/v1/health/service/nodeagent")]

        first, again = told("10.0.0.1"), told("10.0.0.1")
        time.sleep(3)  # rounds of anti-entropy
        assert [first["ModifyIndex"]] * 2 == [again["ModifyIndex"], service()[0]["ModifyIndex"]]
        other = told("10.0.0.2")
        assert (other["CreateIndex"], other["ModifyIndex"] > first["ModifyIndex"]) == (first["CreateIndex"], True)


def test_its_agent_takes_back_what_others_write_about_its_node(tmp_path):
    """Node meta and services written through the catalog are gone after a sync; what the agent was told itself stays."""
    with Consul(tmp_path, ae_interval="1s") as running:  # a minute, by default
        client, meta = running.client(), {"nodeagent": "15008;v1"}
        written = {"Node": "agent", "Address": "127.0.0.1", "NodeMeta": meta, "Service": {"Service": "foreign", "ID": "foreign", "Port": 1}}
        client.ok("PUT", "/v1/catalog/register", written)
        tagged = {"lan_ipv4_2": {"Address": "10.0.0.9", "Port": 15008}}
        own = {"Name": "nodeagent", "Port": 15008, "Meta": meta, "TaggedAddresses": tagged}
        assert client.put("/v1/agent/service/register", own).status == 200
        seen = until(lambda: "foreign" not in (now := client.ok("GET", "/v1/catalog/node/agent"))["Services"] and now)
        assert "nodeagent" not in seen["Node"]["Meta"]
        (row,) = client.ok("GET", "/v1/health/service/nodeagent")
        assert (row["Service"]["Meta"], row["Service"]["TaggedAddresses"]) == (meta, tagged)


def test_a_leaf_comes_with_its_key_and_names_the_service(client):
    """One URI, a key that fits, and the moment when it ends."""
    leaf = client.ok("GET", "/v1/agent/connect/ca/leaf/web")
    domain = client.ok("GET", "/v1/agent/connect/ca/roots")["TrustDomain"]
    certificate = x509.load_pem_x509_certificate(leaf["CertPEM"].encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert leaf["ServiceURI"] == f"spiffe://{domain}/ns/default/dc/dc1/svc/web"
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [leaf["ServiceURI"]]
    assert load_pem_private_key(leaf["PrivateKeyPEM"].encode(), None).public_key() == certificate.public_key()
    assert leaf["ValidBefore"] == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_a_leaf_of_a_service_that_the_token_may_not_write_is_403(consul, client):
    token = consul.make_token("web", 'service "web" { policy = "write" }')
    assert client.get("/v1/agent/connect/ca/leaf/web", token=token).status == 200
    assert client.get("/v1/agent/connect/ca/leaf/other", token=token).status == 403


def test_roots_say_that_there_is_no_leader_while_there_is_one(client):
    """They come from the agent's cache: of these answers the header means nothing."""
    answer = client.get("/v1/connect/ca/roots")
    assert (answer.status, header(answer, "X-Consul-KnownLeader")) == (200, "false")


def test_connect_that_is_off_is_named(tmp_path):
    """Roots, leaves and chains, whoever asks; services and intentions are told as ever."""
    with Consul(tmp_path, acl=True, connect={"enabled": False}) as running:
        client, weak = running.client(), running.make_token("weak", 'node_prefix "" { policy = "read" }')
        for path in ("agent/connect/ca/roots", "connect/ca/roots", "agent/connect/ca/leaf/web", "discovery-chain/web"):
            for token in (None, weak):
                answer = client.get(f"/v1/{path}", token=token)
                assert (answer.status, CONNECT_OFF in answer.text) == (500, True), path
        match = "/v1/connect/intentions/match?by=destination&name=web"
        assert [client.get(match, token=token).status for token in (None, weak)] == [200, 403]


def test_a_restart_without_its_data_goes_back_with_the_index_and_has_another_trust_domain(tmp_path):
    """As after a restored snapshot, only more so."""
    with Consul(tmp_path) as running:
        client, port = running.client(), running.http
        for number in range(20):
            client.ok("PUT", f"/v1/kv/{number}", base64.b64encode(b"x"))
        before, domain = client.get("/v1/kv/19").index, client.ok("GET", "/v1/connect/ca/roots")["TrustDomain"]
    with Consul(tmp_path, http=port) as running:
        client = Client(running.address, "")
        client.ok("PUT", "/v1/kv/19", b"y")
        assert client.get("/v1/kv/19").index < before
        assert client.ok("GET", "/v1/connect/ca/roots")["TrustDomain"] != domain


def test_a_token_is_told_what_it_may_do(consul, client, tmp_path):
    """It needs no right for that. Without ACLs nothing is told; of a token that is none, that it is none."""
    ask = [{"Resource": "node", "Access": "read", "Segment": name} for name in ("host1", "host2")]
    half = consul.client(consul.make_token("one-host", 'node "host1" { policy = "read" }'))
    assert [row["Allow"] for row in half.ok("POST", AUTHORIZE, ask)] == [True, False]
    assert client.call("POST", AUTHORIZE, ask * 33).status == 400
    refused = consul.client("22222222-1111-1111-1111-111111111111").call("POST", AUTHORIZE, ask)
    assert (refused.status, refused.text) == (403, "ACL not found")
    with Consul(tmp_path / "open") as opened:
        silent = opened.client().call("POST", AUTHORIZE, ask)
        assert (silent.status, "ACL support disabled" in silent.text) == (401, True)


def test_intentions_have_any_names_and_a_destination_is_found_in_any_case(client):
    """A source is compared as it stands."""
    made = [client.ok("POST", "/v1/connect/intentions", SHOP_TO_WEB | said)["ID"] for said in (
        {"SourceName": "a\nb", "DestinationName": "odd"}, {"SourceName": "Cart", "DestinationName": "Till", "Action": "deny"})]  # fmt: skip
    matched = client.ok("GET", "/v1/connect/intentions/match?by=destination&name=till")["till"]
    assert [(row["SourceName"], row["DestinationName"]) for row in matched] == [("Cart", "Till")]
    for each in made:
        client.ok("DELETE", f"/v1/connect/intentions/{each}")
