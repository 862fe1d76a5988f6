"""Roots in the catalog's answer."""

import json
from datetime import UTC, datetime

import pytest

from certs.local_ca import LocalCa
from nodeagent.control.trust import parse_roots
from nodeagent.errors import CatalogError

DOMAIN = "11111111-2222-3333-4444-555555555555.consul"
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
