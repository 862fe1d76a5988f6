"""What operators wrote of an instance."""

from nodeagent.catalog.consul_rows import NodeRow, ServiceRow
from nodeagent.catalog.labels import labels_of, read_labels


def test_tags_and_meta_are_kept_and_nothing_else() -> None:
    """In bytes that are the same for the same words; the agents' own mark is nobody's label."""
    node = NodeRow("host1", meta={"nodeagent": "15008;v1", "zone": "a"})
    service = ServiceRow(id="web-1", port=80, tags=["v1", "blue"], meta={"version": "1", "build": "7"})
    said = {"Node": {"Meta": {"zone": "a"}}, "Service": {"Tags": ["v1", "blue"], "Meta": {"build": "7", "version": "1"}}}
    assert said == read_labels(labels_of(node, service, "nodeagent"))
    other = ServiceRow(id="web-2", tags=["v1", "blue"], meta={"build": "7", "version": "1"})
    assert labels_of(node, other, "nodeagent") == labels_of(node, service, "nodeagent")


def test_without_labels_there_are_no_bytes() -> None:
    """As of most instances."""
    assert b"" == labels_of(NodeRow("host1", meta={"nodeagent": "15008;v1"}), ServiceRow(tags=[], meta={}), "nodeagent")
    assert {} == read_labels(b"")
