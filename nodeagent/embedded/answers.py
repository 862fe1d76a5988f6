"""Our rows in the words of Consul's answers."""

from typing import Any

from nodeagent.embedded.database import Stored
from nodeagent.embedded.registration import NodeRow, ServiceRow

Json = dict[str, Any]


def node_json(stored: Stored[NodeRow], datacenter: str) -> Json:
    """A host, as `/v1/catalog/nodes` and `/v1/health/service` show it."""
    row = stored.value
    return {
        "ID": row.id,
        "Node": row.name,
        "Address": row.address,
        "Datacenter": datacenter,
        "TaggedAddresses": row.tagged,
        "Meta": row.meta,
        **_marks(stored),
    }


def service_json(stored: Stored[ServiceRow]) -> Json:
    """An instance, as `/v1/health/service` and `/v1/catalog/node` show it."""
    row = stored.value
    return {
        "ID": row.id,
        "Service": row.name,
        "Tags": row.tags,
        "Address": row.address,
        "TaggedAddresses": row.tagged,
        "Meta": row.meta,
        "Port": row.port,
        "Weights": row.weights,
        "EnableTagOverride": False,
        **_marks(stored),
    }


def health_json(node: Stored[NodeRow], service: Stored[ServiceRow], checks: list[Json], datacenter: str) -> Json:
    """An instance with its host, and the host's checks; what has none is passing."""
    return {"Node": node_json(node, datacenter), "Service": service_json(service), "Checks": checks}


def flat_json(node: Stored[NodeRow], service: Stored[ServiceRow], datacenter: str) -> Json:
    """An instance with its host on one level, as `/v1/catalog/service` shows it."""
    host, row = node.value, service.value
    return {
        "ID": host.id,
        "Node": host.name,
        "Address": host.address,
        "Datacenter": datacenter,
        "TaggedAddresses": host.tagged,
        "NodeMeta": host.meta,
        "ServiceKind": "",
        "ServiceID": row.id,
        "ServiceName": row.name,
        "ServiceTags": row.tags,
        "ServiceAddress": row.address,
        "ServiceTaggedAddresses": row.tagged,
        "ServiceWeights": row.weights,
        "ServiceMeta": row.meta,
        "ServicePort": row.port,
        "ServiceEnableTagOverride": False,
        **_marks(service),
    }


def _marks(stored: Stored[Any]) -> Json:
    return {"CreateIndex": stored.create_index, "ModifyIndex": stored.modify_index}
