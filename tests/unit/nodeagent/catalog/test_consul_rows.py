"""The smallest checks of the catalog's answers."""

import pytest

from nodeagent import limits
from nodeagent.catalog.consul_rows import NodeRow, decode, ip_of, name_of, port_of, rows_of, short, within
from nodeagent.errors import CatalogError


def test_rows_carry_what_is_read_and_ignore_the_rest() -> None:
    """Consul's API grows; what is not used here is not looked at. Null is an empty list."""
    body = b'[{"Node": "a", "Address": "10.0.0.1", "Meta": null, "New": {"x": [1]}}]'
    assert [NodeRow("a", "10.0.0.1")] == rows_of(body, NodeRow, "nodes", 10)
    assert [] == rows_of(b"null", NodeRow, "nodes", 10)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "nodes: not JSON"),
        (b"[", "nodes: not JSON"),
        (b'"\xff"', "nodes: "),
        (b"[" * 100_000, "nodes: "),
        (b"{}", r"nodes: \$ is \{\}: Expected `array"),
        (b'[{"Node": "a"}, {"Node": 7}]', r"nodes: \$\[1\]\.Node is 7: Expected `str`"),
        (b'[{"Node": "a", "TaggedAddresses": {"lan": 5}}]', r"nodes: \$\[0\]\.TaggedAddresses"),
        (b'[{"Address": "10.0.0.1"}]', r"nodes: \$\[0\] is .*required field `Node`"),
    ],
)
def test_another_shape_is_refused_with_path_and_value(body: bytes, says: str) -> None:
    """The message says where and what was found."""
    with pytest.raises(CatalogError, match=says):
        rows_of(body, NodeRow, "nodes", 10)


def test_more_rows_than_the_limit_are_refused() -> None:
    """A poisoned answer must not take all memory."""
    within(10, 10, "nodes")
    with pytest.raises(CatalogError, match="nodes: 11 rows; at most 10"):
        rows_of(b"[" + b",".join([b'{"Node": "a"}'] * 11) + b"]", NodeRow, "nodes", 10)


def test_a_map_is_decoded_in_its_shape() -> None:
    """Not all answers are lists."""
    assert {"a": 1} == decode(b'{"a": 1}', dict[str, int], "map")
    assert decode(b"null", dict[str, int], "map") is None


@pytest.mark.parametrize(
    ("text", "ip"),
    [("10.0.0.1", "10.0.0.1"), ("FD00::0:1", "fd00::1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("", ""), ("db.example.com", ""), ("web_1", "")],
)
def test_an_address_is_canonical_and_a_name_is_none(text: str, ip: str) -> None:
    """Tables are keyed by one spelling; a DNS name is no address but no mistake either."""
    assert ip == ip_of(text, "$", "x")


@pytest.mark.parametrize("text", ["10.0.0.999", "10.0.0.1:80", "a b", "-a", "http://x", "a" * 300, "x\n", "10.0.0.0/8"])
def test_what_is_neither_address_nor_name_is_refused(text: str) -> None:
    """With path and value."""
    with pytest.raises(CatalogError, match=r"x: \$\.A is "):
        ip_of(text, "$.A", "x")


def test_ports_and_names_have_bounds() -> None:
    """0 is Consul's word for no port."""
    assert [0, 65535] == [port_of(0, "$", "x"), port_of(65535, "$", "x")]
    assert name_of("n" * limits.CATALOG_NAME_CHARS, "$", "x")
    for port in (-1, 65536):
        with pytest.raises(CatalogError, match=f"is {port}; a port is in 0..65535"):
            port_of(port, "$", "x")
    for name in ("", "a\nb", "n" * (limits.CATALOG_NAME_CHARS + 1)):
        with pytest.raises(CatalogError, match="printable"):
            name_of(name, "$", "x")


def test_a_value_in_a_message_is_no_longer_than_a_line() -> None:
    """What is hostile and long does not fill the log."""
    assert "'abc'" == short("abc")
    assert len(short("a" * 10_000)) == 80
