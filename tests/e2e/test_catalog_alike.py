"""The same random changes, one after another, to the embedded catalog and to a real Consul: after each both show the same.

CATALOG_CHANGES=2000 looks longer, and CATALOG_SEED at others.
"""

import json
import os
import random

import pytest

from tests.e2e.catalog_process import Process
from tests.e2e.support import consul

CHANGES = int(os.environ.get("CATALOG_CHANGES", "150"))
HOSTS = {"h1": "10.0.0.1", "h2": "10.0.0.2"}
STATES = ["passing", "warning", "critical"]
READS = [
    "/v1/catalog/nodes", "/v1/catalog/services", "/v1/catalog/node/h1", "/v1/catalog/node-services/h2", "/v1/catalog/service/a", "/v1/health/service/b",
    "/v1/health/service/a?passing", "/v1/health/node/h1", "/v1/health/state/any", "/v1/health/state/critical", "/v1/kv/?recurse", "/v1/kv/?keys",
    "/v1/kv/k/?keys&separator=/", "/v1/kv/k", "/v1/config/service-defaults",
]  # fmt: skip
OTHERS = {
    "CreateIndex", "ModifyIndex", "Definition", "Kind", "Connect", "Proxy", "ServiceConnect", "ServiceProxy",
    "ServiceName", "ServiceTags",  # a check of an instance that was registered anew keeps those of before with Consul
}  # fmt: skip
"""What they need not agree on."""


def some(draw, **optional):
    """Each of them or not."""
    return {key: value for key, value in optional.items() if draw.random() < 0.4}


def host(draw, name):
    address = HOSTS[name] + draw.choice(["", "0"])
    return {"Node": name, "Address": address, **some(draw, NodeMeta={"k": draw.choice("xy")}, TaggedAddresses={"lan": HOSTS[name]})}


def check(draw, **of):
    return {"CheckID": draw.choice("cde"), "Name": "n", "Status": draw.choice(STATES), **some(draw, Output="o", Notes="w", **of)}


def instance(draw, name):
    known = {"Node": name, "SkipNodeUpdate": True} if draw.random() < 0.6 else {"Node": name, "Address": HOSTS[name]}
    more = some(draw, Tags=draw.sample(["x", "Y", "z"], 2), Meta={"m": "1"}, Weights={"Passing": 2, "Warning": 1}, Address=HOSTS[name])
    service = {"Service": draw.choice("ab"), "ID": draw.choice("12"), "Port": draw.choice([80, 81]), **more}
    return {**known, "Service": service, **some(draw, Check=check(draw, ServiceID=service["ID"]))}


def removal(draw, name):
    return {"Node": name, **some(draw, ServiceID=draw.choice("12"), CheckID=draw.choice("cde"))}


def change(draw):
    """Method, path and body of one."""
    name, key = draw.choice(list(HOSTS)), draw.choice(["k", "k/a", "k/a/b", "k/", "K"])
    entry = {"Kind": "service-defaults", "Name": draw.choice("ab"), "Protocol": draw.choice(["http", "tcp", "grpc"])}
    return draw.choice(
        [
            ("PUT", "/v1/catalog/register", host(draw, name)),
            ("PUT", "/v1/catalog/register", instance(draw, name)),
            ("PUT", "/v1/catalog/register", instance(draw, name)),
            ("PUT", "/v1/catalog/register", {"Node": name, "SkipNodeUpdate": True, "Checks": [check(draw)]}),
            ("PUT", "/v1/catalog/deregister", removal(draw, name)),
            ("PUT", f"/v1/kv/{key}{draw.choice(['', '?flags=3', '?cas=0'])}", draw.choice([b"", b"v", b"\x00\xff"])),
            ("DELETE", f"/v1/kv/{key}{draw.choice(['', '?recurse', '?cas=0'])}", None),
            ("PUT", "/v1/config", entry),
            ("DELETE", f"/v1/config/service-defaults/{entry['Name']}", None),
        ]
    )


def alike(value):
    """What both are to agree on: without order, empty things, and Consul itself."""
    if isinstance(value, list):
        return sorted((alike(each) for each in value if "agent" not in name_of(each)), key=lambda each: json.dumps(each, sort_keys=True))
    if isinstance(value, dict):
        kept = {key: alike(each) for key, each in value.items() if key not in OTHERS and key != "consul"}
        return {key: each for key, each in kept.items() if each not in (None, {}, [])}
    return value


def name_of(row):
    """Of the host that a row is about."""
    node = row.get("Node") if isinstance(row, dict) else None
    return [node["Node"] if isinstance(node, dict) else node]


def shown(client, path):
    answer = client.get(path)
    return (answer.status, alike(answer.json) or None) if answer.status == 200 else (answer.status, None)


@pytest.mark.timeout(60 + CHANGES)
def test_both_show_the_same_after_each_change(tmp_path):
    draw = random.Random(os.environ.get("CATALOG_SEED", "1"))
    with Process(tmp_path / "data", "--plain") as process, consul.Consul(tmp_path / "consul") as real:
        clients, made = [process.client(), real.client()], []
        for _ in range(CHANGES):
            for name, address in HOSTS.items():  # Consul makes up a host without an address for a check of one that is gone
                if clients[0].get(f"/v1/catalog/node/{name}").text == "null":
                    made.append(("PUT", "/v1/catalog/register", {"Node": name, "Address": address}))
                    assert [client.call(*made[-1]).status for client in clients] == [200, 200]
            made.append(change(draw))
            ours, consuls = [client.call(*made[-1]) for client in clients]
            assert (ours.status, ours.text.strip()) == (consuls.status, consuls.text.strip()), made[-3:]
            for path in READS:
                assert shown(clients[0], path) == shown(clients[1], path), (path, made[-3:])
