"""service-intentions: good and bad."""

import pytest

from nodeagent.catalog.policy.intentions import intentions_faults, source_faults
from nodeagent.model.policy.intentions import ServiceIntentions, Source
from tests.support.entries import bad

HTTP = {"PathPrefix": "/"}


def source(**said):
    return {"Name": "shop"} | said


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "Sources: give at least one"),
        ([source()], "Sources[0]: give either Action or Permissions"),
        ([source(Action="allow", Permissions=[{"Action": "allow", "HTTP": HTTP}])], "Sources[0]: give either Action or Permissions"),
        ([source(Action="allow"), source(Action="deny")], "Sources[1]: the source shop stands twice"),
        ([source(Action="allow", Peer="a", SamenessGroup="b")], "Peer and SamenessGroup are both set"),
        ([source(Permissions=[{"Action": "allow"}])], "Sources[0].Permissions[0]: a permission needs HTTP or JWT"),
        ([source(Permissions=[{"Action": "allow", "HTTP": {}}])], "Sources[0].Permissions[0].HTTP: is empty"),
        ([source(Permissions=[{"HTTP": HTTP}])], "Sources[0].Permissions[0].Action: is missing"),
        ([source(Permissions=[{"Action": "allow", "HTTP": {"PathExact": "/", "PathPrefix": "/"}}])], "PathExact and PathPrefix are both set"),
        ([source(Permissions=[{"Action": "allow", "JWT": {}}])], "Sources[0].Permissions[0].JWT.Providers: give at least one"),
        (
            [source(Permissions=[{"Action": "allow", "JWT": {"Providers": [{"Name": "a"}, {"Name": "a"}]}}])],
            "JWT.Providers[1]: the provider a stands twice",
        ),
        (
            [source(Permissions=[{"Action": "allow", "JWT": {"Providers": [{"Name": "a", "VerifyClaims": [{"Path": [], "Value": "x"}]}]}}])],
            "Providers[0].VerifyClaims[0]: Path names a claim",
        ),
        ([source(Action="allow", Name="Shop")], "Sources[0].Name: not a name"),
        ([source(Action="allow", Type="ldap")], "Sources[0].Type: Invalid enum value 'ldap'"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(sources, sentence):
    assert sentence in bad("service-intentions", Sources=sources)


def test_permissions_need_a_destination_by_name():
    said = [source(Permissions=[{"Action": "allow", "HTTP": HTTP}])]
    assert "Sources[0].Permissions: they need a destination by name" in bad("service-intentions", Name="*", Sources=said)
    assert bad("service-intentions", Sources=said) == ""


def test_a_source_of_a_peer_is_another_one():
    sources = (Source(name="a", action="allow"), Source(name="a", action="deny", peer="p"))
    assert list(intentions_faults(ServiceIntentions(kind="service-intentions", name="web", sources=sources))) == []
    assert list(source_faults(sources[0], "web", "Sources[0]")) == []
