"""Roots in the catalog's answer."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from certs.csr import new_key_and_csr
from certs.local_ca import LocalCa
from certs.serial import tag_in
from certs.spiffe import service_id
from certs.svid import Svid
from nodeagent import limits
from nodeagent.control.trust import parse_roots
from nodeagent.errors import CatalogError
from tests.support.identity_scene import Scene, played
from tests.support.loop import until
from tests.support.newer_consul import ROOT_FIELDS
from tests.support.scripted_catalog import ROOTS

DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
OTHER = "99999999-2222-3333-4444-555555555555.consul"
ONE, TWO = (LocalCa.create(DOMAIN, datetime.now(UTC)).cert_pem for _ in range(2))


def answer(*roots: str, domain: str = DOMAIN, active: str = "r0") -> bytes:
    rows = [
        {"ID": f"r{n}", "RootCert": root, "Active": n == 0, "IntermediateCerts": None} for n, root in enumerate(roots)
    ]
    return json.dumps({"ActiveRootID": active, "TrustDomain": domain, "Roots": rows}).encode()


def test_every_root_that_is_listed_is_believed() -> None:
    trust = parse_roots(answer(ONE, TWO))
    assert trust.bundle.roots_pem == (ONE, TWO)
    assert (trust.active_id, trust.ids) == ("r0", {"r0", "r1"})


def test_a_root_of_a_newer_consul_is_one() -> None:
    """With all that its documentation has beside the certificate."""
    said = json.loads(answer(ONE))
    said["Roots"] = [{**root, **ROOT_FIELDS} for root in said["Roots"]]
    assert parse_roots(json.dumps(said).encode()).bundle.roots_pem == (ONE,)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        answer(),
        answer("no certificate"),
        answer(ONE, domain="other.consul"),
        answer(ONE)[:-9],
        answer(ONE, active="r7"),
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(CatalogError, match="/v1/connect/ca/roots"):
        parse_roots(body)


def test_what_is_revoked_is_taken_from_the_answer_and_nothing_from_consul_s() -> None:
    assert parse_roots(answer(ONE)).revoked == frozenset()
    told = json.loads(answer(ONE)) | {"RevokedSerialTags": ["4a:00", "4b:00"]}
    assert parse_roots(json.dumps(told).encode()).revoked == {"4a:00", "4b:00"}


@pytest.mark.parametrize("tags", ["4a:00", [1], {"a": 1}])
def test_an_answer_whose_revocations_cannot_be_read_is_not_taken(tags: object) -> None:
    """Half of it would be a hole."""
    with pytest.raises(CatalogError):
        parse_roots(json.dumps(json.loads(answer(ONE)) | {"RevokedSerialTags": tags}).encode())


def test_the_first_root_to_end_is_the_one_to_watch() -> None:
    early = LocalCa.create(DOMAIN, datetime(2020, 1, 1, tzinfo=UTC)).cert_pem
    assert parse_roots(answer(ONE, early)).ends_at == datetime(2029, 12, 29, tzinfo=UTC).timestamp()


def test_a_certificate_is_distrusted_by_the_data_path_s_rule() -> None:
    """Taken back with its token, or below a root that is listed no more."""
    now = datetime.now(UTC)
    ca, web = LocalCa.create(DOMAIN, now), service_id(DOMAIN, "dc1", "web")
    key_pem, csr_pem = new_key_and_csr(web)
    svid = Svid.from_pem(ca.sign(csr_pem, web, timedelta(hours=1), now), key_pem)
    trust = parse_roots(answer(ca.cert_pem, ONE))
    assert trust.why_distrusted(svid, trust.root_above(svid)) == ""
    assert "root above the certificate" in trust.why_distrusted(svid, "r7")
    revoked = dataclasses.replace(trust, revoked=frozenset({tag_in(svid.serial)}))
    assert "was revoked (serial" in revoked.why_distrusted(svid, "r0")


def replace_ca(scene: Scene) -> None:
    """As a catalog that lost its data."""
    scene.peer.ca = LocalCa.create(OTHER, datetime.now(UTC))
    scene.peer.set(ROOTS, scene.peer.roots() | {"TrustDomain": OTHER})


def test_it_takes_no_certificate_away_and_is_named() -> None:
    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        before = scene.rings[-1]
        replace_ca(scene)
        await until(lambda: scene.identity.complaint, "the complaint")
        assert f"trust domain is {OTHER} now, and was {DOMAIN}" in scene.identity.complaint
        assert scene.rings[-1] == before

    played(script)


@pytest.mark.parametrize("is_connect", [False, True])
def test_who_gets_certificates_of_consul_s_agent_is_told_to_restart_it(*, is_connect: bool) -> None:
    """It goes on with what it knew of the servers before, and would have none of the new domain at the end."""

    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        scene.identity._issuer.is_connect = is_connect
        replace_ca(scene)
        await until(lambda: scene.identity.complaint, "the complaint")
        assert scene.identity.complaint.endswith("(systemctl restart consul)") == is_connect

    played(script)


def test_it_is_taken_when_it_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates of the new CA are asked for at once."""
    monkeypatch.setattr(limits, "HOLD_BACK_S", 0.2)

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop"}))
        await until(lambda: scene.names() == ["shop"], "the certificate")
        replace_ca(scene)
        await until(lambda: scene.rings[-1].trust_domain == OTHER and scene.names() == ["shop"], "the new one")
        assert scene.identity.complaint == ""

    played(script)


def test_it_is_taken_at_the_end_of_its_time_however_long_the_roots_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So hosts change over at about the same moment, and whoever held what the catalog says hears it anew."""
    monkeypatch.setattr(limits, "HOLD_BACK_S", 0.5)
    monkeypatch.setattr("nodeagent.control.watch.backoff_s", lambda *_: 3600.0)

    async def script(scene: Scene) -> None:
        await until(lambda: scene.identity.trust, "the roots")
        replace_ca(scene)
        await until(lambda: scene.identity.complaint, "the complaint")
        rest = asyncio.create_task(scene.catalog.rest(3600.0))
        await until(lambda: rest.done() and not scene.identity.complaint, "the new one")
        assert scene.identity.trust is not None
        assert scene.identity.trust.bundle.trust_domain == OTHER

    played(script)


def test_a_service_that_was_away_for_a_moment_has_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the catalog may be another, whose CA signs for a trust domain that is not in force here yet."""

    async def script(scene: Scene) -> None:
        scene.identity.need(frozenset({"shop", "cart"}))
        await until(lambda: scene.names() == ["cart", "shop"], "both")
        for is_late in (False, True):
            scene.identity.need(frozenset({"shop"}))
            await until(lambda: scene.names() == ["shop"], "one")
            monkeypatch.setattr(limits, "HOLD_BACK_S", 0.0 if is_late else 300.0)
            scene.identity.need(frozenset({"shop", "cart"}))
            await until(lambda: scene.names() == ["cart", "shop"], "both again")
            assert scene.signed() == (3 if is_late else 2)

    played(script)
