"""The listener's TLS: renewed while it runs, and clients go on trusting it."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from certs.server import ServerRoot
from certs.svid import load_chain
from nodeagent.embedded.tls import FileTls, OwnTls, new_context
from nodeagent.errors import CatalogError

NOW = datetime.now(UTC)
ROOT = ServerRoot.create(NOW - timedelta(days=100))


def shown_by(context, name="10.77.0.250", root=ROOT):
    """The serial of the certificate that a client who pins the root is shown."""
    client_context = ssl.create_default_context(cadata=root.cert_pem)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"
    return client.getpeercert()["serialNumber"]


@pytest.mark.parametrize("name", ["10.77.0.250", "fd77::fa", "localhost"])
def test_a_client_that_pins_the_root_accepts_every_name(name):
    assert shown_by(OwnTls(ROOT, ("10.77.0.250", "fd77::fa", "localhost"), NOW).context, name)


def test_a_name_that_is_not_its_own_is_not_accepted():
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_by(OwnTls(ROOT, ("localhost",), NOW).context, "10.77.0.250")


def test_another_root_is_not_accepted():
    with pytest.raises(ssl.SSLCertVerificationError):
        shown_by(OwnTls(ROOT, ("10.77.0.250",), NOW).context, root=ServerRoot.create(NOW))


def test_it_is_renewed_when_due_and_new_clients_see_the_new_one():
    tls = OwnTls(ROOT, ("10.77.0.250",), NOW - timedelta(days=40))
    first = shown_by(tls.context)
    assert tls.refresh(NOW - timedelta(days=39)) is False
    assert shown_by(tls.context) == first
    assert tls.refresh(NOW + timedelta(days=25)) is True
    assert tls.refresh(NOW + timedelta(days=25)) is False
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        shown_by(tls.context)


def test_an_ended_root_is_said():
    with pytest.raises(CatalogError, match="root certificate is not valid"):
        OwnTls(ROOT, ("localhost",), NOW + timedelta(days=5000))


@pytest.fixture
def files(tmp_path):
    def write(names=("10.77.0.250",)):
        made = ROOT.issue(names, NOW)
        (tmp_path / "cert.pem").write_text(made.cert_pem)
        (tmp_path / "key.pem").write_text(made.key_pem)
        return load_chain(made.cert_pem)[0].serial_number

    return tmp_path / "cert.pem", tmp_path / "key.pem", write


def test_replaced_files_are_read_again(files):
    cert, key, write = files
    first = write()
    tls = FileTls(cert, key)
    assert int(shown_by(tls.context), 16) == first
    assert tls.refresh() is False
    cert.unlink()
    second = write()
    assert tls.refresh() is True
    assert int(shown_by(tls.context), 16) == second


def test_half_replaced_files_leave_the_old_certificate_in_use(files):
    cert, key, write = files
    first = write()
    tls = FileTls(cert, key)
    cert.unlink()
    cert.write_text(ROOT.issue(("10.77.0.250",), NOW).cert_pem)
    with pytest.raises(CatalogError, match="not a TLS certificate with its key"):
        tls.refresh()
    assert int(shown_by(tls.context), 16) == first


def test_absent_files_are_said(tmp_path):
    with pytest.raises(CatalogError, match=r"cert\.pem"):
        FileTls(tmp_path / "cert.pem", tmp_path / "key.pem")


def test_old_tls_is_refused():
    assert new_context().minimum_version == ssl.TLSVersion.TLSv1_3
