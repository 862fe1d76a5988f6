"""/v1/nodeagent/sign: certificates for a token's own services only."""

import pytest

from certs.csr import new_key_and_csr
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.embedded import authority_api
from nodeagent.embedded.access import NOBODY, Caller
from nodeagent.embedded.database import newest_index
from nodeagent.embedded.refusal import BadRequest, Forbidden, Missing
from tests.unit.nodeagent.embedded.desk import HOST1, LAB, NOW, ROOT


def made_for(desk, service):
    return new_key_and_csr(service_id(desk.realm.trust_domain, "dc1", service))


@pytest.mark.parametrize(
    ("caller", "service"), [(HOST1, "web"), (HOST1, "shop"), (LAB, "anything"), (ROOT, "anything")]
)
def test_an_entitled_token_gets_a_certificate(desk, caller, service):
    made = made_for(desk, service)
    shown = desk.call(authority_api.sign, caller, {"CSR": made.csr_pem})
    svid = Svid.from_pem(shown["CertPEM"], made.key_pem)
    assert str(svid.spiffe_id) == shown["ServiceURI"] == str(service_id(desk.realm.trust_domain, "dc1", service))
    assert (svid.not_after - NOW).total_seconds() == 24 * 3600
    assert shown["Service"] == service


def test_another_service_is_refused_naming_both(desk):
    with pytest.raises(Forbidden, match="host1 may not get a certificate for service db: it speaks for web, shop"):
        desk.call(authority_api.sign, HOST1, {"CSR": made_for(desk, "db").csr_pem})


def test_a_request_for_one_under_the_name_of_another_is_refused(desk):
    with pytest.raises(BadRequest, match=r"it asks for .*/svc/db, and the service web is"):
        desk.call(authority_api.sign, HOST1, {"CSR": made_for(desk, "db").csr_pem, "Service": "web"})


@pytest.mark.parametrize(
    "body", [{}, {"CSR": ""}, {"CSR": "x", "Service": "web"}, {"CSR": 1}, {"CSR": "x", "SAN": "y"}]
)
def test_nonsense_is_refused(desk, body):
    with pytest.raises((BadRequest, Missing)):
        desk.call(authority_api.sign, HOST1, body)


def test_roots_are_read_by_hosts(desk):
    shown = desk.call(authority_api.roots, HOST1)
    assert shown["TrustDomain"] == desk.realm.trust_domain
    assert "PRIVATE" not in str(shown)


@pytest.mark.parametrize("body", [
    {}, {"Certificates": "web"}, {"Certificates": [{"Service": "web"}]}, {"Certificates": [], "More": 1},
    {"Certificates": [{"Service": "web", "Serial": "4a" * 100, "Root": "r", "Until": 1}]},
    {"Certificates": [{"Service": "web", "Serial": "4a", "Root": "r", "Until": "tomorrow"}]},
])  # fmt: skip
def test_what_is_held_is_said_in_its_form(desk, body):
    with pytest.raises(BadRequest):
        desk.call(authority_api.held, HOST1, body)


def test_only_a_host_says_what_it_holds_and_not_for_ever(desk):
    for caller in (ROOT, Caller("w", "service", services=("web",)), Caller("r", "read")):
        with pytest.raises(BadRequest, match=f"^{caller} belongs to no host: hosts say what they hold, by their own tokens"):
            desk.call(authority_api.held, caller, {"Certificates": []})
    row = {"Service": "web", "Serial": "4a", "Root": "r", "Until": 1.0}
    with pytest.raises(BadRequest):
        desk.call(authority_api.held, HOST1, {"Certificates": [row] * (limits.CERTIFIED_PER_TOKEN + 1)})


def test_what_is_no_news_is_not_written(desk):
    assert desk.call(authority_api.held, HOST1, {"Certificates": []}) is True
    before = desk.store.read(newest_index)
    desk.call(authority_api.held, HOST1, {"Certificates": []})
    assert desk.store.read(newest_index) == before


def test_roots_as_a_file(desk):
    shown = desk.call(authority_api.roots, HOST1)
    assert desk.call(authority_api.roots, HOST1, query={"pem": "0"}) == shown
    assert desk.call(authority_api.roots, HOST1, query={"pem": "1"}).decode() == shown["Roots"][0]["RootCert"]


def test_the_roots_are_public_and_to_wait_for_them_is_not(desk):
    """Who waits has a place, and is counted as one who has taken them in. What was revoked is told to an agent without a token, too."""
    assert desk.call(authority_api.roots, NOBODY) == desk.call(authority_api.roots, HOST1)
    with pytest.raises(Forbidden, match="to wait for the roots takes a token"):
        desk.call(authority_api.roots, NOBODY, query={"index": "1"})
    assert desk.server.heard == {}
