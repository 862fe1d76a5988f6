"""/v1/acl: tokens over HTTP, for management only."""

import pytest

from nodeagent import limits
from nodeagent.embedded import tokens_api
from nodeagent.embedded.asking import authenticate
from nodeagent.embedded.refusal import BadRequest, Forbidden, Missing, NotFound
from tests.unit.nodeagent.embedded.desk import HOST1

NODE = {"NodeIdentities": [{"NodeName": "host1", "Datacenter": "dc1"}], "ServiceIdentities": [{"ServiceName": "web"}]}


def test_a_host_token_is_made_and_works(desk):
    made = desk.call(tokens_api.create, body=NODE | {"Description": "x"})
    caller = authenticate(desk.server, made["SecretID"])
    assert (caller.accessor, caller.node, caller.services) == (made["AccessorID"], "host1", ("web",))


def test_a_host_token_names_the_addresses_it_may_claim(desk):
    made = desk.call(tokens_api.create, body=NODE | {"Addresses": ["10.0.0.1", "FD00:0::/64", "10.0.0.1/32"]})
    assert authenticate(desk.server, made["SecretID"]).addresses == ("10.0.0.1", "fd00::/64")
    assert (made["Addresses"], made["FixedAddresses"]) == (["10.0.0.1", "fd00::/64"], [])


def test_a_management_token_is_made_and_works(desk):
    made = desk.call(tokens_api.create, body={"Policies": [{"Name": "global-management"}]})
    assert authenticate(desk.server, made["SecretID"]).kind == "management"


def test_the_secret_is_shown_once(desk):
    made = desk.call(tokens_api.create, body=NODE)
    assert made["SecretID"] not in str(desk.call(tokens_api.every))
    shown = desk.call(tokens_api.one, accessor=made["AccessorID"])
    assert shown == {key: value for key, value in made.items() if key != "SecretID"}


def test_a_token_reads_itself(desk):
    made = desk.call(tokens_api.create, body=NODE)
    caller = authenticate(desk.server, made["SecretID"])
    assert desk.call(tokens_api.read_self, caller)["NodeIdentities"] == [{"NodeName": "host1"}]


def test_a_revoked_token_is_unknown(desk):
    made = desk.call(tokens_api.create, body=NODE)
    assert desk.call(tokens_api.delete, accessor=made["AccessorID"]) is True
    with pytest.raises(Forbidden, match="revoked"):
        authenticate(desk.server, made["SecretID"])
    for handler in (tokens_api.delete, tokens_api.one):
        with pytest.raises(NotFound, match="no token with the accessor"):
            desk.call(handler, accessor=made["AccessorID"])


@pytest.mark.parametrize("handler", [tokens_api.create, tokens_api.every, tokens_api.one, tokens_api.delete])
def test_a_host_manages_no_tokens(desk, handler):
    with pytest.raises(Forbidden, match="may not manage tokens"):
        desk.call(handler, HOST1, NODE, accessor="x")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({}, BadRequest),
        (NODE | {"Policies": [{"Name": "global-management"}]}, BadRequest),
        ({"NodeIdentities": [{"NodeName": "a"}, {"NodeName": "b"}]}, BadRequest),
        ({"Policies": [{"Name": "global-management"}], "ServiceIdentities": [{"ServiceName": "x"}]}, BadRequest),
        ({"Policies": [{"Name": "read-only"}]}, BadRequest),
        ({"NodeIdentities": [{"NodeName": "a/b"}]}, BadRequest),
        (NODE | {"Addresses": ["10.0.0.1/8"]}, BadRequest),
        (NODE | {"Addresses": ["host1.example"]}, BadRequest),
        (NODE | {"Addresses": [f"10.0.0.{n}" for n in range(limits.TOKEN_ADDRESSES + 1)]}, BadRequest),
        ({"Policies": [{"Name": "global-management"}], "Addresses": ["10.0.0.1"]}, BadRequest),
        (NODE | {"Roles": [{"Name": "x"}]}, Missing),
        (NODE | {"ExpirationTTL": "1h"}, Missing),
    ],
)
def test_what_cannot_be_granted_is_refused(desk, body, refusal):
    with pytest.raises(refusal):
        desk.call(tokens_api.create, body=body)
