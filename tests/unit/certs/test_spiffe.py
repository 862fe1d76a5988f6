"""SPIFFE IDs: one spelling, every departure refused with a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import CertificateError
from certs.spiffe import (
    ID_BYTES,
    SNI_BYTES,
    TRUST_DOMAIN_BYTES,
    SpiffeId,
    parse_spiffe_id,
    service_id,
    service_name,
    service_of_sni,
    service_sni,
)

TD = "0f4d6e7a-0000-4000-8000-000000000000.consul"

BAD_IDS = {
    "": "must begin with",
    "web": "must begin with",
    "https://td/web": "must begin with",
    "SPIFFE://td/web": "must begin with",
    "spiffe:/td/web": "must begin with",
    " spiffe://td/web": "must begin with",
    "spiffe://": "1 to 255",
    "spiffe:///web": "1 to 255",
    "spiffe://TD/web": "only a-z",
    "spiffe://tD/web": "only a-z",
    "spiffe://td:8443/web": "only a-z",
    "spiffe://user@td/web": "only a-z",
    "spiffe://user:pw@td/web": "only a-z",
    "spiffe://t%64/web": "only a-z",
    "spiffe://*.td/web": "only a-z",
    "spiffe://[::1]/web": "only a-z",
    "spiffe://tdé/web": "only a-z",
    "spiffe://td\0/web": "only a-z",
    "spiffe://td?x": "only a-z",
    "spiffe://td#x": "only a-z",
    "spiffe://" + "a" * (TRUST_DOMAIN_BYTES + 1) + "/web": "1 to 255",
    "spiffe://td/": "empty segment",
    "spiffe://td/web/": "empty segment",
    "spiffe://td//web": "empty segment",
    "spiffe://td/a//b": "empty segment",
    "spiffe://td/./web": "'.' is not allowed",
    "spiffe://td/a/../web": "'..' is not allowed",
    "spiffe://td/..": "'..' is not allowed",
    "spiffe://td/%77eb": "only a-z",
    "spiffe://td/a%2fb": "only a-z",
    "spiffe://td/web?x=1": "only a-z",
    "spiffe://td/web#x": "only a-z",
    "spiffe://td/web\0": "only a-z",
    "spiffe://td/we b": "only a-z",
    "spiffe://td/web\n": "only a-z",
    "spiffe://td/*": "only a-z",
    "spiffe://td/wéb": "only a-z",
    "spiffe://td/" + "a" * ID_BYTES: "longer than 2048",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_IDS.items(), ids=[repr(text)[:40] for text in BAD_IDS])
def test_bad_id_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(CertificateError, match=sentence.replace(".", r"\.")):
        parse_spiffe_id(text)


@pytest.mark.parametrize(
    "text",
    ["spiffe://td", "spiffe://td/web", "spiffe://a-b_c.1/A/b.C-d_e/...", "spiffe://td/" + "a" * (ID_BYTES - 12), "spiffe://" + "a" * TRUST_DOMAIN_BYTES],
)
def test_good_id_is_given_back_as_it_was(text):
    assert str(parse_spiffe_id(text)) == text


@given(st.text(max_size=60).map("spiffe://".__add__) | st.text(max_size=60))
def test_any_text_is_an_id_of_one_spelling_or_refused(text):
    """There are no two texts that mean one ID."""
    try:
        parsed = parse_spiffe_id(text)
    except CertificateError:
        return
    assert str(parsed) == text


def test_an_invalid_id_cannot_be_made_by_hand_either():
    with pytest.raises(CertificateError, match="must begin with '/'"):
        SpiffeId("td", "web")


def test_service_id_is_consuls_form():
    assert str(service_id(TD, "dc1", "web")) == f"spiffe://{TD}/ns/default/dc/dc1/svc/web"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a b", "wéb", "*", "a%2fb"])
def test_a_service_name_that_would_change_the_path_is_refused(name):
    with pytest.raises(CertificateError, match="cannot be a service"):
        service_id(TD, "dc1", name)


def test_service_name_is_read_back():
    assert service_name(service_id(TD, "dc1", "web"), trust_domain=TD, datacenter="dc1") == "web"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("spiffe://other.consul/ns/default/dc/dc1/svc/web", "of trust domain other.consul"),
        (f"spiffe://{TD}", "does not name a service"),
        (f"spiffe://{TD}/ns/default/dc/dc2/svc/web", "does not name a service"),
        (f"spiffe://{TD}/ns/other/dc/dc1/svc/web", "does not name a service"),
        (f"spiffe://{TD}/ap/p/ns/default/dc/dc1/svc/web", "does not name a service"),
        (f"spiffe://{TD}/ns/default/dc/dc1/svc/web/x", "does not name a service"),
        (f"spiffe://{TD}/agent/client/dc/dc1/id/web", "does not name a service"),
    ],
)
def test_an_id_of_another_shape_or_domain_names_no_service(text, sentence):
    with pytest.raises(CertificateError, match=sentence):
        service_name(parse_spiffe_id(text), trust_domain=TD, datacenter="dc1")


def test_sni_is_consuls_form_and_read_back():
    sni = service_sni("web", "dc1", TD)
    assert sni == f"web.default.dc1.internal.{TD}"
    assert service_of_sni(sni, datacenter="dc1", trust_domain=TD) == "web"


@pytest.mark.parametrize(
    "sni",
    [
        "",
        "web",
        f".default.dc1.internal.{TD}",
        f"web.default.dc2.internal.{TD}",
        f"web.other.dc1.internal.{TD}",
        "web.default.dc1.internal.other.consul",
        f"w\0b.default.dc1.internal.{TD}",
        f"w/b.default.dc1.internal.{TD}",
        f"web.default.dc1.internal.{TD}.",
    ],
)
def test_another_sni_names_no_service(sni):
    with pytest.raises(CertificateError, match="does not name a service"):
        service_of_sni(sni, datacenter="dc1", trust_domain=TD)


def test_an_sni_longer_than_tls_takes_is_refused():
    with pytest.raises(CertificateError, match="more than 255"):
        service_sni("w" * (SNI_BYTES + 1 - len(service_sni("", "dc1", TD))), "dc1", TD)
    assert len(service_sni("w" * (SNI_BYTES - len(service_sni("", "dc1", TD))), "dc1", TD)) == SNI_BYTES
