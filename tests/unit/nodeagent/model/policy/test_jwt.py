"""A jwt-provider in Consul's words."""

from nodeagent.model.policy.jwt import JwtProvider, KeySet, LocalKeys, RemoteKeys
from nodeagent.model.policy.values import body_of


def test_abbreviations_are_consuls():
    said = JwtProvider(kind="jwt-provider", name="a", json_web_key_set=KeySet(local=LocalKeys(jwks="x"), remote=RemoteKeys(uri="y", use_sni=True)))
    assert body_of(said)["JSONWebKeySet"] == {"Local": {"JWKS": "x"}, "Remote": {"URI": "y", "UseSNI": True}}
