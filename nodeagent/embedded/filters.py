"""`?filter=` and `?node-meta=`: which rows of an answer are wanted, and which fields a filter may name."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from nodeagent.catalog.bexpr import BadFilter
from nodeagent.catalog.bexpr_rows import Fields, Rows, Table, question
from nodeagent.embedded.answers import Json
from nodeagent.embedded.asking import Ask
from nodeagent.embedded.refusal import BadRequest
from nodeagent.embedded.registration import NodeRow

T = TypeVar("T")
Choose = Callable[[Sequence[Json]], list[Json]]

_TEXTS = Table("text")
_ADDRESS: Fields = {"Address": "text", "Port": "number"}
_WEIGHTS: Fields = {"Passing": "number", "Warning": "number"}

NODE: Fields = {
    "ID": "text", "Node": "text", "Address": "text", "Datacenter": "text", "TaggedAddresses": _TEXTS, "Meta": _TEXTS,
}  # fmt: skip
_PROXY: Fields = {
    "DestinationServiceName": "text", "DestinationServiceID": "text", "LocalServiceAddress": "text", "LocalServicePort": "number",
    "Upstreams": Rows({"DestinationName": "text", "DestinationType": "text", "Datacenter": "text", "LocalBindPort": "number"}),
    "MeshGateway": {"Mode": "text"}, "Expose": {"Checks": "truth"},
}  # fmt: skip
"""What no instance here has: none is a proxy."""
_CONNECT: Fields = {"Native": "truth"}
SERVICE: Fields = {
    "Kind": "text", "ID": "text", "Service": "text", "Tags": "texts", "Address": "text", "TaggedAddresses": Table(_ADDRESS), "Meta": _TEXTS,
    "Port": "number", "Weights": _WEIGHTS, "EnableTagOverride": "truth", "Proxy": _PROXY, "Connect": _CONNECT,
}  # fmt: skip
FLAT: Fields = {
    "ID": "text", "Node": "text", "Address": "text", "Datacenter": "text", "TaggedAddresses": _TEXTS, "NodeMeta": _TEXTS,
    "ServiceKind": "text", "ServiceID": "text", "ServiceName": "text", "ServiceTags": "texts", "ServiceAddress": "text",
    "ServiceTaggedAddresses": Table(_ADDRESS), "ServiceWeights": _WEIGHTS, "ServiceMeta": _TEXTS, "ServicePort": "number",
    "ServiceEnableTagOverride": "truth", "ServiceProxy": _PROXY, "ServiceConnect": _CONNECT,
}  # fmt: skip
CHECK: Fields = {
    "Node": "text", "CheckID": "text", "Name": "text", "Status": "text", "Notes": "text", "Output": "text", "ServiceID": "text",
    "ServiceName": "text", "ServiceTags": "texts", "Type": "text",
}  # fmt: skip
HEALTH: Fields = {"Node": NODE, "Service": SERVICE, "Checks": Rows(CHECK)}
INTENTION: Fields = {
    "ID": "text", "SourceNS": "text", "SourceName": "text", "DestinationNS": "text", "DestinationName": "text", "SourceType": "text",
    "Precedence": "number", "Action": "text", "Description": "text",
    "Meta": _TEXTS, "DefaultAddr": "text", "DefaultPort": "number",
}  # fmt: skip


async def chosen(ask: Ask, fields: Fields) -> Choose:
    """What is left of rows of such fields by the request's filter; all, where it has none.

    Raises:
        BadRequest: not a filter of such rows; also where what is given back is asked of too many.
    """
    text = ask.query.get("filter", "")
    if not text.strip():
        return list
    wanted = await ask.aside(lambda: _refusing(lambda: question(text, fields)))
    return lambda rows: _refusing(lambda: wanted.chosen(rows))


def _refusing(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except BadFilter as error:
        raise BadRequest(f"?filter=: {error}") from None


def on_nodes(ask: Ask) -> Callable[[NodeRow], bool]:
    """Whether a host has all that `?node-meta=key:value` asks for, however often it stands there."""
    pairs = [text.partition(":") for text in ask.all("node-meta")]
    return lambda node: all(node.meta.get(key) == value for key, _, value in pairs)
