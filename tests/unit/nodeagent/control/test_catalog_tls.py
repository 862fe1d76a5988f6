"""Whom the catalog is believed to be, and what it is shown."""

import contextlib
import ssl
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from certs.local_ca import LocalCa
from nodeagent.config import CatalogTable
from nodeagent.control.catalog_tls import connection_to, tls_of
from nodeagent.errors import CatalogError
from tests.unit.nodeagent.probe.scripted import scripted

URL = "https://127.0.0.1:1"


@pytest.fixture
def own(tmp_path):
    """A certificate and its key."""
    ca = LocalCa.create("11111111-2222-3333-4444-555555555555.consul", datetime.now(UTC))
    (tmp_path / "cert.pem").write_text(ca.cert_pem)
    (tmp_path / "key.pem").write_text(ca.key_pem)
    return tmp_path


def test_a_ca_file_without_a_certificate_is_an_error_that_names_it(tmp_path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    for name in (path, tmp_path / "missing.pem"):
        with pytest.raises(CatalogError, match=f"catalog.ca_file .*{name.name}"):
            tls_of(CatalogTable(URL, ca_file=str(name)))


def test_a_certificate_that_cannot_be_shown_is_an_error_that_names_it(own) -> None:
    """A key with a password, too: nobody is asked for it."""
    key = load_pem_private_key((own / "key.pem").read_bytes(), None)
    (own / "locked.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")))
    tls_of(CatalogTable(URL, cert_file=str(own / "cert.pem"), key_file=str(own / "key.pem")))
    for name in ("cert.pem", "missing.pem", "locked.pem"):
        with pytest.raises(CatalogError, match=f"catalog.key_file .*{name}"):
            tls_of(CatalogTable(URL, cert_file=str(own / "cert.pem"), key_file=str(own / name)))


def test_the_name_that_is_asked_for_is_the_configured_one(own) -> None:
    """Of an address none is asked for; that the certificate must have it is tried with a real Consul."""
    seen = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(own / "cert.pem", own / "key.pem")
    server.sni_callback = lambda _socket, name, _context: seen.append(name)
    with scripted() as there:
        there.socket = server.wrap_socket(there.socket, server_side=True, do_handshake_on_connect=False)
        for name in ("server.dc1.consul", ""):
            table = CatalogTable(there.url.replace("http:", "https:"), ca_file=str(own / "cert.pem"), server_name=name)
            connection = connection_to(table, 5.0)
            with contextlib.closing(connection), pytest.raises(ssl.SSLCertVerificationError):
                connection.request("GET", "/")
    assert seen == ["server.dc1.consul", None]


def test_in_clear_nothing_is_read() -> None:
    assert not hasattr(connection_to(CatalogTable("http://127.0.0.1:1", ca_file="/none"), 1.0), "_tls")
