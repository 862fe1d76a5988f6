"""SVIDs: chain and key belong together, and the key shows nowhere."""

from datetime import timedelta

import pytest

from certs.csr import new_key_and_csr
from certs.errors import CertificateError
from certs.local_ca import BACKDATED, LocalCa
from certs.spiffe import parse_spiffe_id
from certs.svid import CHAIN_LENGTH, Svid, load_chain, serial_text
from tests.unit.certs.minting import DOMAIN, NOW, WEB

CA = LocalCa.create(DOMAIN, NOW)
MADE = new_key_and_csr(parse_spiffe_id(WEB))
CHAIN = CA.sign(MADE.csr_pem, parse_spiffe_id(WEB), timedelta(hours=24), NOW)


def test_svid_tells_what_its_leaf_says():
    svid = Svid.from_pem(CHAIN, MADE.key_pem)
    assert (str(svid.spiffe_id), svid.not_before, svid.not_after) == (WEB, NOW - BACKDATED, NOW + timedelta(hours=24))
    assert svid.serial == serial_text(load_chain(CHAIN)[0].serial_number)


def test_repr_shows_no_key():
    assert "PRIVATE KEY" not in repr(Svid.from_pem(CHAIN, MADE.key_pem))


def test_a_foreign_key_is_refused():
    with pytest.raises(CertificateError, match="does not belong"):
        Svid.from_pem(CHAIN, new_key_and_csr(parse_spiffe_id(WEB)).key_pem)


def test_an_unreadable_key_is_refused_without_quoting_it():
    with pytest.raises(CertificateError, match="cannot be read") as refused:
        Svid.from_pem(CHAIN, "s3cret")
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_root_is_no_svid():
    with pytest.raises(CertificateError, match="is a CA's"):
        Svid.from_pem(CA.cert_pem, CA.key_pem)


@pytest.mark.parametrize("chain", ["", "x", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
def test_an_unreadable_chain_is_refused(chain):
    with pytest.raises(CertificateError, match="cannot be read"):
        Svid.from_pem(chain, MADE.key_pem)


def test_a_chain_of_nine_is_refused():
    with pytest.raises(CertificateError, match="more than 8"):
        Svid.from_pem(CHAIN * (CHAIN_LENGTH + 1), MADE.key_pem)


@pytest.mark.parametrize(("serial", "text"), [(8, "08"), (0x0A1B, "0a:1b"), (0x01FF00, "01:ff:00")])
def test_serials_are_written_as_consul_does(serial, text):
    assert serial_text(serial) == text
