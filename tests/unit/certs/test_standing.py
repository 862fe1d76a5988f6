"""Which certificates are relied on after roots left or tokens were revoked."""

from datetime import timedelta

import pytest

from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.serial import CHANCE_BYTES, tag_of, tagged_serial
from certs.spiffe import parse_spiffe_id
from certs.standing import fingerprint, roots_by_fingerprint, standing_of, why_distrusted
from certs.svid import load_chain
from tests.unit.certs.minting import DOMAIN, NOW, WEB

OLD, NEW = LocalCa.create(DOMAIN, NOW), LocalCa.create(DOMAIN, NOW)
BOTH = roots_by_fingerprint(OLD.cert_pem + NEW.cert_pem)
OLD_ID, NEW_ID = (fingerprint(load_chain(ca.cert_pem)[0]) for ca in (OLD, NEW))
SERIAL = tagged_serial(tag_of("one"), bytes(CHANCE_BYTES))


def leaf_of(ca):
    web = parse_spiffe_id(WEB)
    return load_chain(ca.sign(new_key_and_csr(web).csr_pem, web, timedelta(hours=1), NOW, serial=SERIAL))[0]


@pytest.mark.parametrize(
    ("ca", "believed", "revoked", "why"),
    [
        (OLD, {OLD_ID}, set(), ""),
        (OLD, {OLD_ID, NEW_ID}, set(), ""),
        (OLD, {NEW_ID}, set(), "the root above the certificate of web on host2 is not believed any more"),
        (OLD, set(), set(), "not believed any more"),
        (NEW, {NEW_ID}, set(), ""),
        (NEW, {OLD_ID}, set(), "not believed any more"),
        (OLD, {OLD_ID}, {tag_of("two")}, ""),
        (OLD, {OLD_ID}, {tag_of("two"), tag_of("one")}, "the certificate of web on host2 was revoked"),
    ],
)
def test_a_leaf_stands_on_the_root_that_signed_it_and_on_its_token(ca, believed, revoked, why):
    standing = standing_of(leaf_of(ca), "web on host2", BOTH)
    assert standing.is_exact
    said = why_distrusted(standing, frozenset(believed), frozenset(revoked))
    assert (why in said, bool(said)) == (True, bool(why))


def test_where_an_intermediate_hides_the_root_all_of_them_must_stay():
    """It hangs on one of them, and nobody knows on which."""
    other = LocalCa.create(DOMAIN, NOW)
    standing = standing_of(leaf_of(other), "web", BOTH)
    assert not standing.is_exact
    assert why_distrusted(standing, frozenset(BOTH), frozenset()) == ""
    assert why_distrusted(standing, frozenset({OLD_ID, NEW_ID, "a third"}), frozenset()) == ""
    assert "not believed" in why_distrusted(standing, frozenset({NEW_ID}), frozenset())


def test_an_empty_bundle_has_no_roots_and_vouches_for_nobody():
    assert roots_by_fingerprint("") == {}
    assert why_distrusted(standing_of(leaf_of(OLD), "web", {}), frozenset(), frozenset())
