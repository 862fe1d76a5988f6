"""The routes: every path of the API with its handler and the parameters that it takes."""

from typing import NamedTuple

from nodeagent.embedded import (
    agent_api,
    authority_api,
    catalog_api,
    checks_api,
    config_api,
    intentions_api,
    kv_api,
    rotation_api,
    tokens_api,
)
from nodeagent.embedded.asking import Handler


class Route(NamedTuple):
    """One path of the API."""

    method: str
    path: str
    handler: Handler
    params: tuple[str, ...] = ()
    """What may stand in its query besides what may always."""
    is_open: bool = False
    """Answers without a token, and looks at none."""
    is_public: bool = False
    """Answers at once who sends no token, too."""
    is_paced: bool = True
    """Counts as a write of its token. What mostly writes nothing says so itself, where it does."""


ALWAYS = ("dc", "ns", "partition", "pretty", "stale", "consistent", "cached")
"""Consistency modes change nothing: there is one server, and what it answers is what it stored."""
WAIT = ("index", "wait")
REPEATABLE = ("tag", "node-meta")
"""May stand more than once: an instance must have every tag, a host every value."""
PAIR = ("source", "destination", "source-type")

ROUTES = (
    Route("GET", "/v1/status/leader", catalog_api.leader, is_open=True),
    Route("GET", "/v1/status/peers", catalog_api.peers, is_open=True),
    Route("GET", "/v1/agent/self", agent_api.read_self, ("node",)),
    Route("GET", "/v1/agent/services", agent_api.services, ("node", "filter")),
    Route("PUT", "/v1/agent/service/register", agent_api.register, ("node", "replace-existing-checks")),
    Route("PUT", "/v1/agent/service/deregister/{id}", agent_api.deregister, ("node",)),
    Route("GET", "/v1/agent/checks", checks_api.checks, ("node", "filter")),
    Route("PUT", "/v1/agent/check/register", checks_api.register, ("node",)),
    Route("PUT", "/v1/agent/check/deregister/{id}", checks_api.deregister, ("node",)),
    Route("PUT", "/v1/agent/check/pass/{id}", checks_api.passing, ("node", "note"), is_paced=False),
    Route("PUT", "/v1/agent/check/warn/{id}", checks_api.warning, ("node", "note"), is_paced=False),
    Route("PUT", "/v1/agent/check/fail/{id}", checks_api.failing, ("node", "note"), is_paced=False),
    Route("PUT", "/v1/agent/check/update/{id}", checks_api.update, ("node",), is_paced=False),
    Route("PUT", "/v1/agent/maintenance", agent_api.maintain, ("node", "enable", "reason")),
    Route("PUT", "/v1/catalog/register", catalog_api.register),
    Route("PUT", "/v1/catalog/deregister", catalog_api.deregister),
    Route("GET", "/v1/catalog/datacenters", catalog_api.datacenters, is_open=True),
    Route("GET", "/v1/catalog/nodes", catalog_api.nodes, (*WAIT, "node-meta", "filter")),
    Route("GET", "/v1/catalog/services", catalog_api.services, (*WAIT, "node-meta")),
    Route("GET", "/v1/catalog/service/{name}", catalog_api.service, (*WAIT, "tag", "node-meta", "filter")),
    Route("GET", "/v1/catalog/node/{node}", catalog_api.node, (*WAIT, "filter")),
    Route("GET", "/v1/catalog/node-services/{node}", catalog_api.node_services, (*WAIT, "filter")),
    Route("GET", "/v1/health/service/{name}", catalog_api.health, (*WAIT, "tag", "node-meta", "passing", "filter")),
    Route("GET", "/v1/health/node/{node}", catalog_api.health_of_node, (*WAIT, "filter")),
    Route("GET", "/v1/health/checks/{name}", checks_api.of_service, (*WAIT, "node-meta", "filter")),
    Route("GET", "/v1/health/state/{state}", checks_api.in_state, (*WAIT, "node-meta", "filter")),
    Route("GET", "/v1/internal/ui/nodes", catalog_api.inventory, WAIT),
    Route("PUT", "/v1/config", config_api.put, ("cas",)),
    Route("GET", "/v1/config/{kind}", config_api.every, WAIT),
    Route("GET", "/v1/config/{kind}/{name}", config_api.one, WAIT),
    Route("DELETE", "/v1/config/{kind}/{name}", config_api.delete, ("cas",)),
    Route("GET", "/v1/connect/intentions", intentions_api.every, (*WAIT, "filter")),
    Route("GET", "/v1/connect/intentions/match", intentions_api.match, (*WAIT, "by", "name")),
    Route("GET", "/v1/connect/intentions/check", intentions_api.check, PAIR),
    Route("GET", "/v1/connect/intentions/exact", intentions_api.one, (*WAIT, *PAIR)),
    Route("PUT", "/v1/connect/intentions/exact", intentions_api.put, PAIR),
    Route("DELETE", "/v1/connect/intentions/exact", intentions_api.delete, PAIR),
    Route("GET", "/v1/kv/{key:.*}", kv_api.read, (*WAIT, "recurse", "keys", "separator", "raw")),
    Route("PUT", "/v1/kv/{key:.*}", kv_api.put, ("cas", "flags")),
    Route("DELETE", "/v1/kv/{key:.*}", kv_api.delete, ("cas", "recurse")),
    Route("GET", "/v1/connect/ca/roots", authority_api.roots, (*WAIT, "pem"), is_public=True),
    Route("GET", "/v1/agent/connect/ca/roots", authority_api.roots, WAIT, is_public=True),
    Route("PUT", "/v1/nodeagent/sign", authority_api.sign),
    Route("PUT", "/v1/nodeagent/held", authority_api.held),
    Route("GET", "/v1/nodeagent/checks", checks_api.duties, (*WAIT, "node")),
    Route("GET", "/v1/nodeagent/ca", rotation_api.state),
    Route("PUT", "/v1/nodeagent/ca/rotate", rotation_api.rotate),
    Route("PUT", "/v1/acl/token", tokens_api.create),
    Route("GET", "/v1/acl/tokens", tokens_api.every),
    Route("GET", "/v1/acl/token/self", tokens_api.read_self),
    Route("GET", "/v1/acl/token/{accessor}", tokens_api.one),
    Route("DELETE", "/v1/acl/token/{accessor}", tokens_api.delete),
)
