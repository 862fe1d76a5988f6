"""jwt-provider: good and bad."""

import base64

import pytest

from nodeagent.catalog.policy.jwt import jwt_faults
from tests.support.entries import FULL, bad, good

REMOTE = {"Remote": {"URI": "https://a.example/jwks"}}


def local(text):
    return {"Local": {"JWKS": base64.b64encode(text).decode()}}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "JSONWebKeySet: give exactly one of Local and Remote"),
        ({"JSONWebKeySet": REMOTE | {"Local": {"Filename": "x"}}}, "give exactly one of Local and Remote"),
        ({"JSONWebKeySet": {"Local": {}}}, "JSONWebKeySet.Local: give exactly one of JWKS and Filename"),
        ({"JSONWebKeySet": {"Local": {"JWKS": "!"}}}, "JSONWebKeySet.Local.JWKS: is no key set"),
        ({"JSONWebKeySet": local(b"[]")}, "is no key set"),
        ({"JSONWebKeySet": local(b'{"keys": 5}')}, "is no key set"),
        ({"JSONWebKeySet": local(b"\xff")}, "is no key set"),
        ({"JSONWebKeySet": local(b"[" * 100_000)}, "is no key set"),
        ({"JSONWebKeySet": {"Remote": {"URI": "keys"}}}, "JSONWebKeySet.Remote.URI: 'keys' is no address"),
        ({"JSONWebKeySet": {"Remote": {"URI": "http://[x"}}}, "is no address"),
        (
            {"JSONWebKeySet": {"Remote": {"URI": "http://x", "RetryPolicy": {"RetryPolicyBackOff": {"BaseInterval": "2s", "MaxInterval": "1s"}}}}},
            "RetryPolicyBackOff: BaseInterval is above MaxInterval",
        ),
        ({"JSONWebKeySet": REMOTE, "Locations": [{}]}, "Locations[0]: needs exactly one of Header, QueryParam, Cookie"),
        ({"JSONWebKeySet": REMOTE, "Locations": [{"Cookie": {}}]}, "Locations[0].Cookie.Name: is missing"),
        ({"JSONWebKeySet": REMOTE, "Forwarding": {}}, "Forwarding.HeaderName: is missing"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(said, sentence):
    assert sentence in bad("jwt-provider", **said)


def test_the_full_entry_is_sound():
    assert list(jwt_faults(good(FULL["jwt-provider"]).spec)) == []
    assert bad("jwt-provider", JSONWebKeySet=local(b'{"keys": [{}]}')) == ""
