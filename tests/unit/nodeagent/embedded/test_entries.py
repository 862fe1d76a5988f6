"""Config entries: known kinds, checked shapes, intentions in order."""

import pytest

from nodeagent.embedded.entries import CONSULS, KINDS, check_kind, normal_entry, normal_source, sorted_sources
from nodeagent.embedded.refusal import BadRequest, Missing
from tests.support.entries import FULL

PERMISSIONS = [{"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["GET"]}}]


def intentions(*sources, **more):
    return {"Kind": "service-intentions", "Name": "web", "Sources": list(sources)} | more


def test_an_unknown_kind_is_refused_naming_the_known_ones():
    with pytest.raises(BadRequest, match="service-intentions, service-defaults, proxy-defaults, mesh"):
        check_kind("service-raouter")


@pytest.mark.parametrize("kind", CONSULS)
def test_a_kind_that_consul_has_besides_is_said_to_be_missing(kind):
    with pytest.raises(Missing, match=f"the config entry kind {kind} is not implemented"):
        check_kind(kind)


@pytest.mark.parametrize(
    "entry",
    [
        {"Kind": "service-defaults", "Name": "web", "Protocol": "grpc", "Meta": {"a": "b"}},
        {"Kind": "service-defaults", "Name": "web", "UpstreamConfig": {"Defaults": {"ConnectTimeoutMs": 1}}},
        {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}},
        {"Kind": "mesh", "Name": "mesh", "TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3"}}},
        {"Kind": "service-router", "Name": "web", "Routes": [{"Match": {"HTTP": {"PathPrefix": "/v2"}}}]},
        {"Kind": "service-splitter", "Name": "web", "Splits": [{"Weight": 90}, {"Weight": 10, "ServiceSubset": "v2"}]},
        {"Kind": "service-resolver", "Name": "web", "ConnectTimeout": "1m30s", "Subsets": {"v2": {"Filter": "Service.Meta.v == 1"}}},
        {"Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "JSONWebKeySet": {"Local": {"JWKS": "eyJrZXlzIjogW119"}}},
    ],
)
def test_an_entry_is_kept_as_given(entry):
    assert normal_entry(entry) == entry


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"service-intentions"}))
def test_the_full_entry_of_each_kind_is_kept_as_given(kind):
    assert normal_entry(FULL[kind]) == FULL[kind]


def test_all_that_is_wrong_is_said_at_once():
    """In the words of `nodeagent policy`."""
    routes = [{"Match": {"HTTP": {"PathExact": "/", "PathPrefix": "/"}}}, {"Destination": {"NumRetries": -1}}]
    with pytest.raises(BadRequest, match=r"NumRetries.*; .*Match\.HTTP: PathExact and PathPrefix are both set"):
        normal_entry({"Kind": "service-router", "Name": "web", "Routes": routes})


def test_marks_and_nulls_of_a_reader_are_not_kept():
    entry = {"Kind": "service-defaults", "Name": "web", "CreateIndex": 1, "ModifyIndex": 2, "Hash": 3, "Expose": None}
    assert normal_entry(entry) == {"Kind": "service-defaults", "Name": "web"}


def test_the_only_name_of_a_kind_need_not_be_said():
    assert normal_entry({"Kind": "mesh"})["Name"] == "mesh"


def test_sources_get_their_precedence_and_order():
    entry = normal_entry(intentions({"Name": "*", "Action": "deny"}, {"Name": "shop", "Action": "allow"}))
    assert [(s["Name"], s["Precedence"], s["Type"]) for s in entry["Sources"]] == [
        ("shop", 9, "consul"), ("*", 8, "consul"),
    ]  # fmt: skip
    assert sorted_sources(entry["Sources"][::-1]) == entry["Sources"]
    assert normal_entry(entry) == entry


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({}, "'' is no kind"),
        ({"Kind": ["x"]}, "is no kind"),
        ({"Kind": "service-defaults"}, "Name: is missing"),
        ({"Kind": "service-defaults", "Name": "web", "Protocol": "udp"}, "Protocol"),
        ({"Kind": "service-defaults", "Name": "web", "Protcol": "tcp"}, "did you mean Protocol"),
        ({"Kind": "service-defaults", "Name": "*"}, "Name"),
        ({"Kind": "service-router", "Name": "web", "Route": []}, "did you mean Routes"),
        ({"Kind": "service-splitter", "Name": "web", "Splits": []}, "Splits"),
        ({"Kind": "service-resolver", "Name": "web", "ConnectTimeout": "soon"}, "ConnectTimeout"),
        ({"Kind": "jwt-provider", "Name": "okta"}, "JSONWebKeySet"),
        ({"Kind": "service-defaults", "Name": "web", "MaxInboundConnections": -1}, "MaxInboundConnections"),
        ({"Kind": "proxy-defaults", "Name": "web"}, "Name"),
        ({"Kind": "mesh", "Name": "x"}, "Name"),
        (intentions(), "give at least one"),
        (intentions({"Name": "a", "Action": "allow"}, {"Name": "a", "Action": "deny"}), "a stands twice"),
        (intentions({"Name": "a"}), "either Action or Permissions"),
        (intentions({"Name": "a", "Action": "allow", "Permissions": PERMISSIONS}), "either Action or Permissions"),
        (intentions({"Name": "a*", "Action": "allow"}), r"Sources\[0\]\.Name"),
        (intentions({"Name": "a", "Action": "maybe"}), r"Sources\[0\]\.Action"),
        (intentions({"Name": "a", "Permissions": PERMISSIONS}, Name="*"), "by name, not"),
        (intentions({"Name": "a", "Permissions": [{"Action": "deny"}]}), "needs HTTP or JWT"),
        (
            intentions(
                {"Name": "a", "Permissions": [{"Action": "deny", "HTTP": {"PathExact": "/", "PathPrefix": "/"}}]}
            ),
            "PathExact and PathPrefix are both set",
        ),
        (
            intentions({"Name": "a", "Permissions": [{"Action": "deny", "HTTP": {"Header": [{"Name": "x"}]}}]}),
            "exactly one way",
        ),
    ],
)
def test_a_bad_entry_is_refused_with_its_key(entry, sentence):
    with pytest.raises(BadRequest, match=sentence):
        normal_entry(entry)


@pytest.mark.parametrize("key", ["Peer", "SamenessGroup", "Partition", "Namespace"])
def test_a_source_of_elsewhere_is_refused_aloud(key):
    """Ignoring the key would widen the intention."""
    with pytest.raises(Missing, match=key):
        normal_source({"Name": "a", "Action": "allow", key: "other"}, "web")


def test_permissions_are_kept():
    assert normal_source({"Name": "a", "Permissions": PERMISSIONS}, "web")["Permissions"] == PERMISSIONS
