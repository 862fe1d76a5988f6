"""Every endpoint that the embedded catalog serves, and each of its parameters, asked of it and of a real Consul: the same comes back."""

import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from nodeagent.embedded.routes import ROUTES, WAIT
from tests.e2e.support.catalogs import BACKENDS
from tests.support.eventually import eventually

REFUSED = "refused"
SYNC_S = 90.0  # as in test_consul_facts
LATER = ("/v1/connect/intentions/exact", "/v1/agent/maintenance")  # since Consul 1.9, or with `node`: asked in test_catalog_contract
OURS = ("/v1/nodeagent/",)
ACL = "/v1/acl/"  # answered by the Consul that has ACLs

READS = [
    ("/v1/catalog/nodes", ["pa", "pb"]),
    ("/v1/catalog/nodes?node-meta=k:x", ["pa"]),
    ("/v1/catalog/nodes?node-meta=k:x&node-meta=e:", ["pa"]),
    ("/v1/catalog/nodes?node-meta=k", []),
    ("/v1/catalog/nodes?node-meta=", []),
    ("/v1/catalog/nodes?filter=Meta.k==x", ["pa"]),
    ("/v1/catalog/nodes?filter=Nod==x", REFUSED),
    ("/v1/catalog/services", ["p"]),
    ("/v1/catalog/services?node-meta=k:x", ["p"]),
    ("/v1/catalog/services?node-meta=k:y", []),
    ("/v1/catalog/datacenters", []),
    ("/v1/status/leader", []),
    ("/v1/status/peers", []),
    ("/v1/agent/self?node=pa", []),
    ("/v1/connect/ca/roots", []),
    ("/v1/connect/ca/roots?pem=true", "-----BEGIN"),
    ("/v1/connect/ca/roots?pem", []),
    ("/v1/connect/ca/roots?pem=x", REFUSED),
    ("/v1/agent/connect/ca/roots", []),
    ("/v1/internal/ui/nodes", ["pa", "pb"]),
    *(
        (f"/v1/{path}{query}", found)
        for path in ("catalog/service/p", "health/service/p")
        for query, found in (
            ("", ["p1", "p2"]), ("?tag=y", ["p1"]), ("?tag=Y", ["p1"]), ("?tag=x&tag=y", ["p1"]), ("?tag=z", []), ("?tag=", []),
            ("?node-meta=k:x", ["p1"]), ("?node-meta=k:y", []), ("?filter=nothing==x", REFUSED),
        )
    ),
    ("/v1/catalog/service/p?filter=NodeMeta.k==x", ["p1"]),
    ("/v1/health/service/p?filter=Checks.Status==critical", ["p1"]),
    *(
        (f"/v1/health/service/p?passing{value}", found)
        for value, found in (
            ("", ["p2"]), ("=1", ["p2"]), ("=True", ["p2"]), ("=f", ["p1", "p2"]), ("=0", ["p1", "p2"]), ("=false", ["p1", "p2"]), ("=yes", REFUSED),
        )
    ),
    ("/v1/catalog/node/pa", ["p1"]),
    ("/v1/catalog/node/pa?filter=Port==1", []),
    ("/v1/catalog/node/none", None),
    ("/v1/catalog/node-services/pa", ["p1"]),
    ("/v1/catalog/node-services/pa?filter=Kind!=proxy", ["p1"]),
    ("/v1/catalog/node-services/none", []),
    ("/v1/health/node/pa", ["pc1"]),
    ("/v1/health/node/pa?filter=Status==passing", []),
    ("/v1/health/checks/p", ["pc1", "pc2"]),
    ("/v1/health/checks/p?node-meta=k:x", ["pc1"]),
    ("/v1/health/checks/p?filter=Status==passing", ["pc2"]),
    ("/v1/health/state/critical", ["pc1"]),
    ("/v1/health/state/any?node-meta=k:x", ["pc1"]),
    ("/v1/health/state/any?filter=CheckID==pc2", ["pc2"]),
    ("/v1/config/service-defaults", ["p"]),
    ("/v1/config/service-defaults/p", ["p"]),
    ("/v1/config/service-defaults/none", REFUSED),
    ("/v1/config/nonsense", REFUSED),
    ("/v1/connect/intentions", []),
    ("/v1/connect/intentions?filter=SourceName==none", []),
    ("/v1/connect/intentions?filter=Meta.k==x", []),
    ("/v1/connect/intentions/match?by=source&name=p", ["p"]),
    ("/v1/connect/intentions/match?by=destination&name=p", ["p"]),
    ("/v1/connect/intentions/match?by=x&name=p", REFUSED),
    ("/v1/connect/intentions/check?source=a&destination=p&source-type=x", REFUSED),
    ("/v1/kv/p/1", ["p/1"]),
    ("/v1/kv/p/1?raw", "value of p/1"),
    ("/v1/kv/none", REFUSED),
    ("/v1/kv/p?recurse", ["p/1", "p/2", "p/a/3", "pq"]),
    ("/v1/kv/p/?recurse=true", ["p/1", "p/2", "p/a/3"]),
    ("/v1/kv/p?keys", ["p/1", "p/2", "p/a/3", "pq"]),
    ("/v1/kv/p/?keys&separator=/", ["p/1", "p/2", "p/a/"]),
    ("/v1/kv/p/?keys&separator=", ["p/1", "p/2", "p/a/3"]),
    ("/v1/kv/none?keys", REFUSED),
    ("/v1/kv/none?recurse", REFUSED),
    ("/v1/kv/p/1?stale&consistent", REFUSED),
    ("/v1/health/service/p?cached&consistent", REFUSED),
    ("/v1/kv/p/1?dc=dc2", REFUSED),
    ("/v1/kv/p/1?index=-1", REFUSED),
    ("/v1/agent/services?node=none", []),
    ("/v1/agent/services?node=pa&filter=Service==none", []),
    ("/v1/agent/checks?node=none", []),
    ("/v1/agent/checks?node=pa&filter=Status==none", []),
]  # fmt: skip
"""What is shown of what `fill` has made."""

WRITES = [
    ("PUT", "/v1/agent/service/register?node=pa", {"Name": "w", "ID": "w1", "Port": 90, "Check": {"TTL": "1h", "CheckID": "wc"}}, True),
    *(("PUT", f"/v1/agent/check/{verb}/wc?node=pa&note=n", None, True) for verb in ("pass", "warn", "fail")),
    ("PUT", "/v1/agent/check/update/wc?node=pa", {"Status": "passing", "Output": "o"}, True),
    ("PUT", "/v1/agent/check/register?node=pa", {"Name": "c", "ID": "wd", "ServiceID": "w1", "TTL": "1h"}, True),
    ("PUT", "/v1/agent/service/register?node=pa&replace-existing-checks=true", {"Name": "w", "ID": "w1", "Port": 90, "Check": {"TTL": "1h", "CheckID": "wc"}}, True),
    ("PUT", "/v1/agent/check/pass/wd?node=pa", None, REFUSED),
    ("PUT", "/v1/agent/check/deregister/wc?node=pa", None, True),
    ("PUT", "/v1/agent/service/deregister/w1?node=pa", None, True),
    ("PUT", "/v1/kv/w?cas=0&flags=7", b"1", True),
    ("PUT", "/v1/kv/w?cas=0", b"1", False),
    ("PUT", "/v1/kv/w?flags=x", b"1", REFUSED),
    ("PUT", "/v1/kv/w?cas=x", b"1", REFUSED),
    ("DELETE", "/v1/kv/w?cas=1", None, False),
    ("DELETE", "/v1/kv/w?cas=0", None, False),
    ("DELETE", "/v1/kv/w?recurse", None, True),
    ("DELETE", "/v1/kv/w?cas=5", None, True),
    ("PUT", "/v1/config?cas=0", {"Kind": "service-defaults", "Name": "w"}, True),
    ("PUT", "/v1/config?cas=0", {"Kind": "service-defaults", "Name": "w", "Protocol": "http"}, False),
    ("DELETE", "/v1/config/service-defaults/w", None, True),
    ("PUT", "/v1/catalog/register", {"Node": "wn", "Address": "10.0.0.9"}, True),
    ("PUT", "/v1/catalog/register", {"Node": "wn", "SkipNodeUpdate": True, "Service": {"Service": "v", "ID": "v1", "Port": 1}}, True),
    ("PUT", "/v1/catalog/deregister", {"Node": "wn", "ServiceID": "v1", "CheckID": "none"}, True),
    ("PUT", "/v1/catalog/register", {"Node": "wn", "SkipNodeUpdate": True, "Check": {"CheckID": "wc", "Name": "c", "Status": "passing", "ServiceID": ""}}, True),
    *(("PUT", "/v1/catalog/deregister", {"Node": "wn", "CheckID": "wc"}, True) for _ in range(2)),
    ("PUT", "/v1/catalog/deregister", {"Node": "wn", "Datacenter": "dc2"}, REFUSED),
    ("PUT", "/v1/catalog/deregister", {"Node": "wn"}, True),
]  # fmt: skip
"""One after another."""


def fill(client):
    """Two hosts with an instance and a check each, some keys, an entry."""
    client.ok("PUT", "/v1/catalog/register", {"Node": "pa", "Address": "10.0.1.1", "NodeMeta": {"k": "x", "e": ""}})
    client.ok("PUT", "/v1/catalog/register", {"Node": "pb", "Address": "10.0.1.2"})
    for number, node, tags, status in ((1, "pa", ["x", "y"], "critical"), (2, "pb", ["x"], "passing")):
        service = {"Service": "p", "ID": f"p{number}", "Port": 80, "Tags": tags}
        check = {"Node": node, "CheckID": f"pc{number}", "Name": "c", "Status": status, "ServiceID": f"p{number}"}
        client.ok("PUT", "/v1/catalog/register", {"Node": node, "SkipNodeUpdate": True, "Service": service, "Check": check})
    for key in ("p/1", "p/2", "p/a/3", "pq"):
        client.ok("PUT", f"/v1/kv/{key}", f"value of {key}".encode())
    client.ok("PUT", "/v1/config", {"Kind": "service-defaults", "Name": "p", "Protocol": "http"})
    return client


@pytest.fixture(scope="module")
def filled(opened):
    """Gives the catalog of a name, filled at its first use."""
    clients = {}

    def one(name):
        if name not in clients:
            clients[name] = fill(opened(name))
        return clients[name]

    return one


def shown(answer):
    """Names of ours in an answer; its beginning where it is none of JSON."""
    if answer.status != 200:
        return REFUSED
    try:
        body = answer.json
    except ValueError:
        return answer.text
    if body is None:
        return None
    if isinstance(body, dict) and "Services" in body:
        services = body["Services"] or []
        body = list(services.values()) if isinstance(services, dict) else services
    rows = [body] if isinstance(body, dict) and "Kind" in body else body if isinstance(body, list) else list(body)
    return sorted(name for name in map(name_of, rows) if name.startswith("p"))


def name_of(row):
    if isinstance(row, str):
        return row
    if isinstance(row.get("Service"), dict):
        return row["Service"]["ID"]
    return next((row[key] for key in ("CheckID", "ServiceID", "Key", "Node", "ID", "Name") if row.get(key)), "")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("path", "wanted"), READS, ids=lambda value: value.removeprefix("/v1/") if isinstance(value, str) else "")
def test_what_is_asked_for_is_shown(filled, backend, path, wanted):
    found = shown(filled(backend).get(path))
    assert found[: len(wanted)] == wanted if isinstance(wanted, str) and wanted != REFUSED else found == wanted


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_written_is_answered_alike(filled, backend):
    client = filled(backend)
    for method, path, body, wanted in WRITES:
        answer = client.call(method, path, body)
        done = REFUSED if answer.status != 200 else json.loads(answer.text) if answer.text.strip() in ("true", "false") else True
        assert done == wanted, f"{method} {path}: {answer.status} {answer.text}"
    eventually(lambda: "w" not in client.get("/v1/catalog/services").json, SYNC_S, "Consul's servers hear of it from its agent")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", ["/v1/catalog/nodes", "/v1/health/service/p", "/v1/kv/p?recurse", "/v1/config/service-defaults"])
def test_what_every_endpoint_takes_changes_nothing(filled, backend, path):
    client, joint = filled(backend), "&" if "?" in path else "?"
    for query in ("dc=dc1", "stale", "consistent", "cached", "pretty", "dc=dc1&stale&pretty"):
        assert client.get(f"{path}{joint}{query}").json == client.get(path).json, query


def waiting():
    """A path for each route that waits."""
    names = {"name": "p", "node": "pa", "kind": "service-defaults", "key": "p/1", "state": "any"}
    for route in ROUTES:
        if set(WAIT) <= set(route.params) and not route.path.startswith((*OURS, LATER[0], "/v1/connect/intentions/match")):  # 1.8 tells no index there
            yield re.sub(r"\{(\w+)[^}]*\}", lambda found: names[found[1]], route.path)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", list(waiting()))
def test_who_has_the_newest_waits_and_gets_the_same(filled, backend, path):
    """Consul's own agent may tell its servers of something just then, so it is looked at until nothing moves."""
    client, joint = filled(backend), "&" if "?" in path else "?"

    def is_same():
        before = client.get(path)
        later = client.get(f"{path}{joint}index={before.index}&wait=50ms")
        assert later.status == 200
        assert later.index >= before.index >= 1
        return later.json == before.json

    eventually(is_same, SYNC_S, "the same answer twice")
    assert client.get(f"{path}{joint}index=1&wait=soon").status == 400


def test_tokens_are_made_shown_and_removed(filled):
    """Each with its own id."""
    for backend in ("embedded", "consul-deny"):
        client = filled(backend)
        made = client.ok("PUT", "/v1/acl/token", {"ServiceIdentities": [{"ServiceName": "p"}], "Description": "of p"})
        own = {"AccessorID": made["AccessorID"], "Description": "of p"}
        assert client.ok("GET", f"/v1/acl/token/{made['AccessorID']}").items() >= own.items()
        assert client.ok("GET", "/v1/acl/token/self", token=made["SecretID"]).items() >= own.items()
        assert made["AccessorID"] in [row["AccessorID"] for row in client.ok("GET", "/v1/acl/tokens")]
        assert client.ok("DELETE", f"/v1/acl/token/{made['AccessorID']}") is True
        assert client.get("/v1/acl/token/self", token=made["SecretID"]).status == 403


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_check_that_names_no_service_is_the_hosts(filled, backend):
    """Also where it stands beside a service's registration: every service of the host fails with it."""
    client = filled(backend)
    client.ok("PUT", "/v1/catalog/register", {"Node": "un", "Address": "10.0.0.8", "Service": {"Service": "u", "ID": "u1", "Port": 1}})
    beside = {"Service": {"Service": "v", "ID": "v1", "Port": 2}, "Check": {"CheckID": "uc", "Name": "c", "Status": "critical"}}
    client.ok("PUT", "/v1/catalog/register", {"Node": "un", "SkipNodeUpdate": True, **beside})
    (row,) = client.ok("GET", "/v1/health/service/u")
    assert [(check["CheckID"], check["ServiceID"]) for check in row["Checks"]] == [("uc", "")]
    assert client.ok("GET", "/v1/health/service/u?passing") == client.ok("GET", "/v1/health/checks/v") == []
    client.ok("PUT", "/v1/catalog/deregister", {"Node": "un"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_store_has_a_root(backend, tmp_path):
    """Its keys are none; to everything else there is nothing."""
    with BACKENDS[backend](tmp_path) as client:
        assert (client.get("/v1/kv/?keys").status, client.ok("GET", "/v1/kv/?keys"), client.get("/v1/kv/?recurse").status) == (200, [], 404)


@pytest.mark.parametrize("backend", ["embedded", "consul-deny"])
def test_who_sends_no_token_is_told_what_is_public(filled, backend):
    client = filled(backend)
    paths = ("status/leader", "status/peers", "catalog/datacenters", "connect/ca/roots", "agent/connect/ca/roots", "agent/self")
    assert [client.get(f"/v1/{path}", token="").status for path in paths] == [200] * 5 + [403]


def test_every_endpoint_and_parameter_is_among_them():
    """Whoever adds one adds what is asked of both."""
    asked = [("GET", path) for path, _ in READS] + [(method, path) for method, path, _, _ in WRITES]
    missing = []
    for route in ROUTES:
        pattern = re.compile(re.sub(r"\\\{\w+(:\\\.\\\*)?\\\}", lambda found: ".*" if found[1] else "[^/]+", re.escape(route.path)))
        own = [urlsplit(path) for method, path in asked if method == route.method and pattern.fullmatch(urlsplit(path).path)]
        params = {name for each in own for name, _ in parse_qsl(each.query, keep_blank_values=True)}
        if not route.path.startswith((*OURS, ACL, *LATER)) and (not own or not {*route.params} - {*WAIT, "source", "destination"} <= params):
            missing.append((route.method, route.path, sorted({*route.params} - params)))
    assert missing == [("DELETE", "/v1/config/{kind}/{name}", ["cas"])]  # Consul has it since 1.11
