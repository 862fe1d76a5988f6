"""What the catalog's answers mean to a command; the exchange itself is also in tests of the clients."""

import http.client
import json
import ssl

import pytest

from nodeagent.control.json_http import exchange, explain, parse_answer, why_unwelcome
from nodeagent.errors import CatalogError, CatalogUnreachable, NotInCatalog


def test_refusals_say_what_was_asked_what_the_catalog_said_and_what_to_look_at() -> None:
    with pytest.raises(CatalogError, match=r"answered 403 to PUT /v1/config: not yours; is it the right token\?"):
        parse_answer(403, b"not yours", "PUT /v1/config")
    with pytest.raises(NotInCatalog, match="404 to GET /v1/config/x/y: without a word"):
        parse_answer(404, b"", "GET /v1/config/x/y")
    with pytest.raises(CatalogError, match="not JSON"):
        parse_answer(200, b"<html>", "GET /v1/config")
    assert parse_answer(200, b"", "GET /v1/x") is None
    assert parse_answer(200, json.dumps([1]).encode(), "GET /v1/x") == [1]


def test_the_catalogs_words_cannot_steer_a_terminal() -> None:
    with pytest.raises(CatalogError, match=r"gone \?\[31mred") as caught:
        parse_answer(500, b"gone \x1b[31mred\x07", "GET /v1/x")
    assert str(caught.value).isprintable()


def test_several_errors_are_one_line() -> None:
    """As Consul lists them."""
    with pytest.raises(CatalogError, match=r'failed: 2 errors occurred: \* invalid config key "A" \* invalid config key "B"$'):
        parse_answer(400, b'failed: 2 errors occurred:\n\t* invalid config key "A"\n\t* invalid config key "B"\n\n', "PUT /v1/config")


@pytest.mark.parametrize("reason", ["TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE", "TLSV1_ALERT_UNKNOWN_CA"])
def test_a_catalog_that_wants_a_certificate_is_told_with_the_cure(reason: str) -> None:
    wanting = ssl.SSLError("x")
    wanting.reason = reason
    assert explain(wanting) == f"it wants a certificate that it believes of whoever calls ({reason}); give catalog.cert_file and catalog.key_file"
    wanting.reason = "WRONG_VERSION_NUMBER"
    assert why_unwelcome(wanting) == why_unwelcome(None) == ""


def test_failures_to_connect_name_the_cure() -> None:
    wrong = ssl.SSLCertVerificationError("x")
    wrong.verify_message = "self-signed"
    assert "catalog.ca_file its CA?" in explain(wrong)
    for code in (9, 10):
        wrong.verify_code = code
        assert "is this host's clock right (timedatectl)?" in explain(wrong)
    assert "is the catalog running?" in explain(ConnectionRefusedError())
    assert explain(TimeoutError("_ssl.c:975: The handshake operation timed out")) == "no answer in time; does it hang, or is the way to it filtered?"
    assert explain(OSError("odd")) == "odd"


def test_nobody_there_is_a_kind_of_its_own() -> None:
    with pytest.raises(CatalogUnreachable, match="nobody listens there"):
        exchange(http.client.HTTPConnection("127.0.0.1", 1, timeout=5), "", "GET", "/v1/x")
