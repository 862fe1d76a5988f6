"""All of Consul's API asked of the embedded catalog: it is served, or answered 501 with its name; never 404, never 500, never half."""

import re

import pytest

from nodeagent.embedded.routes import ALWAYS, ROUTES
from tests.e2e.catalog_process import Process

ENDPOINTS = """
acl/auth-method acl/auth-method/x acl/auth-methods acl/binding-rule acl/binding-rule/x acl/binding-rules acl/bootstrap acl/clone/x acl/create
acl/destroy/x acl/info/x acl/list acl/login acl/logout acl/policies acl/policy acl/policy/x acl/policy/name/x acl/replication acl/role acl/role/x
acl/role/name/x acl/roles acl/rules/translate acl/rules/translate/x acl/templated-policies acl/templated-policy/name/x acl/token acl/token/self
acl/token/x acl/token/x/clone acl/tokens acl/update
agent/check/deregister/x agent/check/fail/x agent/check/pass/x agent/check/register agent/check/update/x agent/check/warn/x agent/checks
agent/connect/authorize agent/connect/ca/leaf/x agent/connect/ca/roots agent/force-leave/x agent/health/service/id/x agent/health/service/name/x agent/host
agent/join/x agent/leave agent/maintenance agent/members agent/metrics agent/metrics/stream agent/monitor agent/reload agent/self agent/service/deregister/x
agent/service/maintenance/x agent/service/register agent/service/x agent/services agent/token/agent agent/token/default agent/token/replication agent/version
catalog/connect/x catalog/datacenters catalog/deregister catalog/gateway-services/x catalog/node-services/x catalog/node/x catalog/nodes
catalog/register catalog/service/x catalog/services config config/ config/service-defaults config/service-defaults/x
connect/ca/configuration connect/ca/roots connect/intentions connect/intentions/check connect/intentions/exact connect/intentions/match connect/intentions/x
coordinate/datacenters coordinate/node/x coordinate/nodes coordinate/update discovery-chain/x event/fire/x event/list exported-services
health/checks/x health/connect/x health/ingress/x health/node/x health/service/x health/state/any imported-services
internal/acl/authorize internal/federation-state/x internal/federation-states internal/federation-states/mesh-gateways internal/rpc/methods
internal/service-virtual-ip internal/ui/catalog-overview internal/ui/exported-services internal/ui/gateway-intentions/x internal/ui/gateway-services-nodes/x
internal/ui/metrics-proxy/x internal/ui/node/x internal/ui/nodes internal/ui/service-topology/x internal/ui/services
kv/x operator/area operator/autopilot/configuration operator/autopilot/health operator/autopilot/state operator/keyring operator/license operator/raft/configuration
operator/raft/peer operator/raft/transfer-leader operator/segment operator/usage operator/utilization
namespace namespace/x namespaces partition partition/x partitions peering/token peering/establish peering/x peerings
query query/x query/x/execute query/x/explain
session/create session/destroy/x session/info/x session/list session/node/x session/renew/x snapshot status/leader status/peers txn
""".split()  # noqa: SIM905 - a page to read
METHODS = ("GET", "PUT", "POST", "DELETE")
PARAMETERS = (
    "acquire", "release", "near", "merge-central-config", "peer", "peer-name", "sg", "hash", "filter", "expanded", "policy", "role", "authmethod",
    "authmethod-ns", "serviceName", "compile-dc", "wan", "segment", "prune", "cas", "flags", "keys", "recurse", "raw", "separator", "passing", "tag",
    "node-meta", "pem", "index", "wait", "node", "service", "by", "name", "format", "x",
)  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("none") / "data", "--plain") as process:
        yield process.client()


def served(method, path):
    """The route that answers there."""
    for route in ROUTES:
        pattern = re.sub(r"\\\{\w+(:\\\.\\\*)?\\\}", lambda found: ".*" if found[1] else "[^/]+", re.escape(route.path))
        if route.method == method and re.fullmatch(pattern, path):
            return route
    return None


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_served_says_its_name(client, method):
    """With a body, too, and with the parameters that Consul takes there."""
    wrong = []
    for endpoint in ENDPOINTS:
        path, body = f"/v1/{endpoint}", {} if method in ("PUT", "POST") else None
        if served(method, path):
            continue
        for query in ("", "?dc=dc1&stale", "?x=y"):
            answer = client.call(method, path + query, body)
            if (answer.status, answer.text) != (501, f"{method} {path} is not implemented by this catalog"):
                wrong.append((method, path + query, answer.status, answer.text[:80]))
    assert wrong == []


@pytest.mark.parametrize("method", METHODS)
def test_what_is_served_fails_by_no_fault_of_its_own(client, method):
    """Whatever is missing in the question, or is no name: a refusal that says what, or a 404 of a thing that is not there."""
    wrong = []
    for endpoint in ENDPOINTS:
        path = f"/v1/{endpoint}"
        for body in ({}, None, b"", b"[]", b"\xff", {"x": 1}) if method == "PUT" and served(method, path) else (None,):
            answer = client.call(method, path, body)
            if served(method, path) and (answer.status not in (200, 400, 403, 404, 501) or (answer.status != 200 and not answer.text and "/kv/" not in path)):
                wrong.append((method, path, body, answer.status, answer.text[:80]))
    assert wrong == []


def test_no_parameter_is_ignored(client):
    """One that an endpoint does not take is named, whatever else is there."""
    wrong = []
    for route in ROUTES:
        path = re.sub(r"\{state\}", "any", route.path)
        path = re.sub(r"\{kind\}", "service-defaults", path)
        path = re.sub(r"\{\w+(:\.\*)?\}", "x", path)
        for name in PARAMETERS:
            if name in (*route.params, *ALWAYS):
                continue
            answer = client.call(route.method, f"{path}?{name}=1", {} if route.method == "PUT" else None)
            if (answer.status, f"?{name}=" in answer.text) != (501, True):
                wrong.append((route.method, route.path, name, answer.status, answer.text[:80]))
    assert wrong == []


def test_every_endpoint_of_ours_is_one_of_consuls():
    """But those below /v1/nodeagent."""
    known = {(method, f"/v1/{endpoint}") for method in METHODS for endpoint in ENDPOINTS}
    reached = {(route.method, route.path) for method, path in known if (route := served(method, path))}
    assert {(route.method, route.path) for route in ROUTES if not route.path.startswith("/v1/nodeagent/")} <= reached
