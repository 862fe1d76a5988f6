"""Who answers as the catalog: a Consul agent, with the id of its node, or the embedded catalog, which has none."""

import msgspec

from nodeagent.control.consul import Catalog, CatalogRefused
from nodeagent.errors import CatalogError

SELF = "/v1/agent/self"


class AgentConfig(msgspec.Struct, rename="pascal"):
    """What an agent says of itself."""

    node_name: str = ""
    datacenter: str = ""
    node_id: str = msgspec.field(default="", name="NodeID")
    """Of an agent that keeps its node's row in the catalog; the embedded catalog has none."""


class _Self(msgspec.Struct, rename="pascal"):
    config: AgentConfig


async def read_self(catalog: Catalog) -> AgentConfig:
    """What whoever answers says of itself.

    Raises:
        CatalogError: it could not be asked, or its answer is none.
    """
    body = (await catalog.read(SELF)).body
    try:
        return msgspec.json.decode(body, type=_Self).config
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogError(f"{SELF}: {error}") from error


async def is_embedded(catalog: Catalog) -> bool:
    """Whether it is the embedded catalog for certain: it refuses whoever may not read, where Consul leaves out.

    Raises:
        CatalogError: it could not be asked.
    """
    try:
        return not (await read_self(catalog)).node_id
    except CatalogRefused:
        return False
