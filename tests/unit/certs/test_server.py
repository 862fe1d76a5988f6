"""The catalog's own certificates: right names, own root, renewed in time."""

from datetime import timedelta

import pytest
from cryptography import x509

from certs.errors import CertificateError
from certs.server import SERVER_LIFE, ServerRoot
from certs.svid import load_chain
from tests.unit.certs.minting import NOW

ROOT = ServerRoot.create(NOW)


def test_certificate_has_the_addresses_and_names_it_is_called_by():
    leaf = load_chain(ROOT.issue(("10.77.0.250", "fd77::fa", "catalog.example"), NOW).cert_pem)[0]
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in san.get_values_for_type(x509.IPAddress)] == ["10.77.0.250", "fd77::fa"]
    assert san.get_values_for_type(x509.DNSName) == ["catalog.example"]
    assert leaf.issuer == load_chain(ROOT.cert_pem)[0].subject
    leaf.verify_directly_issued_by(load_chain(ROOT.cert_pem)[0])


def test_renewal_is_due_a_month_before_the_end():
    due = ROOT.issue(("::1",), NOW).renew_at()
    assert NOW + timedelta(days=59) < due < NOW + SERVER_LIFE - timedelta(days=29)


@pytest.mark.parametrize("names", [(), ("bücher.example",)])
def test_no_name_or_a_bad_one_is_refused(names):
    with pytest.raises(CertificateError, match="name"):
        ROOT.issue(names, NOW)


def test_repr_shows_no_key():
    assert "PRIVATE" not in repr(ROOT) + repr(ROOT.issue(("::1",), NOW))
