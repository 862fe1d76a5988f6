"""The snapshot that entries alone would make."""

from nodeagent.catalog.offline import offline_snapshot
from nodeagent.catalog.policy.entries import read_entry
from nodeagent.decide.authorize import deciding_intention
from nodeagent.model.snapshot import Snapshot


def made(*documents: dict[str, object]) -> Snapshot:
    return offline_snapshot([read_entry(document).spec for document in documents])


def test_every_service_that_an_entry_names_is_known() -> None:
    """With what is said of it, and without instances."""
    snapshot = made(
        {"Kind": "proxy-defaults", "Config": {"protocol": "http"}},
        {"Kind": "service-defaults", "Name": "db", "Protocol": "tcp", "UpstreamConfig": {"Defaults": {"ConnectTimeoutMs": 100}}},
        {"Kind": "service-router", "Name": "web", "Routes": [{"Destination": {"Service": "api"}}]},
        {"Kind": "service-splitter", "Name": "api", "Splits": [{"Weight": 100, "Service": "new"}]},
        {"Kind": "service-resolver", "Name": "new", "Redirect": {"Service": "newer"}},
        {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Action": "allow"}]},
        {"Kind": "service-intentions", "Name": "*", "Sources": [{"Name": "*", "Action": "deny"}]},
        {"Kind": "retry-budget", "Name": "*", "Ratio": 0.5},
        {"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": True}}}},
    )
    assert {"db", "web", "api", "new", "newer", "shop"} == set(snapshot.services)
    assert {"tcp"} == {service.protocol for service in snapshot.services.values() if service.name == "db"}
    assert {"http"} == {service.protocol for service in snapshot.services.values() if service.name != "db"}
    assert all(service.instances == () for service in snapshot.services.values())
    traffic = snapshot.services["web"].traffic
    assert traffic is not None
    assert traffic.router is not None
    assert traffic.retry_budget is not None
    assert snapshot.services["db"].upstreams is not None
    assert snapshot.mesh.normalization is not None


def test_intentions_decide_as_in_an_agent() -> None:
    """With their permissions."""
    permission = {"Action": "allow", "HTTP": {"PathPrefix": "/"}}
    snapshot = made({"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "shop", "Permissions": [permission]}, {"Name": "*", "Action": "deny"}]})
    decider = deciding_intention(snapshot, "shop", "web")
    assert decider is not None
    assert len(decider.permissions) == 1
    assert "deny" == deciding_intention(snapshot, "cart", "web").action


def test_what_is_no_service_s_entry_names_none() -> None:
    """A service may have the name that another kind has for its only entry."""
    provider = {"Kind": "jwt-provider", "Name": "okta", "JSONWebKeySet": {"Remote": {"URI": "https://192.0.2.1/keys"}}}
    snapshot = made(provider, {"Kind": "mesh"}, {"Kind": "service-defaults", "Name": "global", "Protocol": "http"})
    assert ["global"] == [*snapshot.services]
