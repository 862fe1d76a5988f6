"""/v1/acl: tokens over HTTP, for management only."""

import pytest

from nodeagent import limits
from nodeagent.embedded import agent_api, catalog_api, config_api, intentions_api, kv_api, tokens_api
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


def test_a_reserved_name_gets_no_token(desk):
    """It could register nothing, and looks as if it could."""
    for name in ("consul", "nodeagent"):
        with pytest.raises(BadRequest, match="is reserved"):
            desk.call(tokens_api.create, body={"ServiceIdentities": [{"ServiceName": name}]})


def test_a_management_token_is_made_and_works(desk):
    made = desk.call(tokens_api.create, body={"Policies": [{"Name": "global-management"}]})
    assert authenticate(desk.server, made["SecretID"]).kind == "management"


def test_a_token_for_services_registers_them_where_they_run_and_writes_their_entries(desk):
    made = desk.call(tokens_api.create, body={"ServiceIdentities": [{"ServiceName": "web"}]})
    caller = authenticate(desk.server, made["SecretID"])
    assert (caller.kind, str(caller)) == ("service", "the token for web")
    for number in (1, 2):
        desk.call(catalog_api.register, body={"Node": f"host{number}", "Address": f"10.0.0.{number}"})
        service = {"Service": "web", "ID": "w", "Port": 80}
        body = {"Node": f"host{number}", "SkipNodeUpdate": True, "Service": service}
        assert desk.call(catalog_api.register, caller, body) is True
    assert desk.call(agent_api.register, caller, {"Name": "web", "ID": "x"}, query={"node": "host1"}) == b""
    assert len(desk.call(agent_api.services, caller, query={"node": "host1"})) == 2
    assert desk.call(config_api.put, caller, {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}) is True
    assert desk.call(agent_api.deregister, caller, query={"node": "host1"}, id="x") == b""
    assert desk.call(catalog_api.deregister, caller, {"Node": "host2", "ServiceID": "w"}) is True


@pytest.mark.parametrize("names", [["*"], ["web", "*"]])
def test_a_token_for_every_service_is_of_one_host(desk, names):
    """As on the command line: else it were one for all hosts and all services."""
    body = {"ServiceIdentities": [{"ServiceName": name} for name in names]}
    with pytest.raises(BadRequest, match=r"ServiceIdentities \* is for tokens of one host"):
        desk.call(tokens_api.create, body=body)
    assert desk.call(tokens_api.create, body=body | {"NodeIdentities": [{"NodeName": "host1"}]})["ServiceIdentities"]


def test_a_token_for_services_touches_nothing_else(desk):
    caller = authenticate(desk.server, desk.call(tokens_api.create, body={"ServiceIdentities": [{"ServiceName": "web"}]})["SecretID"])
    desk.call(catalog_api.register, body={"Node": "host1", "Address": "10.0.0.1", "Service": {"Service": "db", "ID": "db", "Port": 1}})
    refused = (
        (catalog_api.register, {"Node": "host1", "Address": "10.0.0.9"}, {}),
        (catalog_api.register, {"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "db", "ID": "d2"}}, {}),
        (catalog_api.register, {"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "web", "ID": "db"}}, {}),
        (catalog_api.register, {"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "web", "Address": "10.0.0.9"}}, {}),
        (catalog_api.deregister, {"Node": "host1"}, {}),
        (catalog_api.deregister, {"Node": "host1", "ServiceID": "db"}, {}),
        (config_api.put, {"Kind": "service-defaults", "Name": "db"}, {}),
        (config_api.put, {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "*", "Action": "allow"}]}, {}),
        (agent_api.maintain, {}, {"enable": "true", "node": "host1"}),
        (kv_api.put, {}, {}),
        (tokens_api.create, {"Policies": [{"Name": "global-management"}]}, {}),
    )
    for handler, body, query in refused:
        with pytest.raises(Forbidden, match=r"^the token for web may not"):
            desk.call(handler, caller, body, query, key="x")
    with pytest.raises(BadRequest, match="the token for web belongs to no host: say which with"):
        desk.call(agent_api.services, caller)
    assert list(desk.call(catalog_api.node, node="host1")["Services"]) == ["db"]


def test_a_token_for_reading_looks_and_changes_nothing(desk):
    made = desk.call(tokens_api.create, body={"Policies": [{"Name": "builtin/global-read-only"}]})
    caller = authenticate(desk.server, made["SecretID"])
    assert (caller.kind, desk.call(tokens_api.read_self, caller)["Policies"]) == ("read", [{"Name": "builtin/global-read-only"}])
    desk.call(catalog_api.register, body={"Node": "host1", "Address": "10.0.0.1"})
    for handler in (catalog_api.nodes, catalog_api.services, intentions_api.every):
        assert desk.call(handler, caller) == desk.call(handler)
    for handler, body in (
        (catalog_api.register, {"Node": "host1", "SkipNodeUpdate": True, "Service": {"Service": "web"}}),
        (catalog_api.deregister, {"Node": "host1"}), (config_api.put, {"Kind": "mesh"}), (tokens_api.every, {}), (kv_api.read, {}),
    ):  # fmt: skip
        with pytest.raises(Forbidden, match=r"^the token for reading may not|may read keys below nodeagent/ only"):
            desk.call(handler, caller, body, key="secret")


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
        ({"Policies": [{"Name": "global-management"}, {"Name": "builtin/global-read-only"}]}, BadRequest),
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


IDENTITY = [{"ServiceName": "web"}]


@pytest.mark.parametrize("key", ["AccessorID", "SecretID", "Rules", "Type", "AuthMethod", "TemplatedPolicies", "Partition", "Local"])
def test_what_consul_knows_of_a_token_and_this_catalog_does_not_is_named(desk, key):
    with pytest.raises(Missing, match=f"^{key} is not implemented"):
        desk.call(tokens_api.create, body={"ServiceIdentities": IDENTITY, key: "x"})


@pytest.mark.parametrize(
    "identities",
    [
        {"NodeIdentities": [{"NodeName": "host1", "Datacenter": "dc2"}]},
        {"ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc1", "dc2"]}]},
    ],
)
def test_a_token_for_another_datacenter_is_refused(desk, identities):
    """It would count in this one."""
    with pytest.raises(BadRequest, match="no path to datacenter 'dc2'"):
        desk.call(tokens_api.create, body=identities)
    here = {"ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc1"]}]}
    assert desk.call(tokens_api.create, body=here)["ServiceIdentities"] == IDENTITY
