"""What operators wrote of an instance, for filters of subsets to ask: tags and meta, kept in bytes as hardly anybody asks."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.catalog.consul_rows import NodeRow, ServiceRow

Labels = Mapping[str, Any]
"""`Node.Meta`, `Service.Tags` and `Service.Meta`, as a health row has them; what is empty is not there."""

_encode = msgspec.msgpack.Encoder(order="sorted").encode


def labels_of(node: NodeRow, service: ServiceRow, marker: str) -> bytes:
    """Of a health row; empty where there are none. marker: the key of a node's meta that is the agents' own."""
    node_meta = {key: value for key, value in (node.meta or {}).items() if key != marker}
    own = {key: value for key, value in (("Tags", service.tags), ("Meta", service.meta)) if value}
    said = {key: value for key, value in (("Node", {"Meta": node_meta} if node_meta else None), ("Service", own)) if value}
    return _encode(said) if said else b""


def read_labels(labels: bytes) -> Labels:
    """What `labels_of` made."""
    found: Labels = msgspec.msgpack.decode(labels) if labels else {}
    return found
