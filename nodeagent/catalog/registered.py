"""What is registered on one machine, by its own row."""

from collections.abc import Set as AbstractSet

import msgspec

from nodeagent import limits
from nodeagent.catalog.consul_rows import ListedService, decode
from nodeagent.catalog.state import APPLICATIONS, RESERVED_SERVICES, is_lan_tag
from nodeagent.model.address import canonical_ip
from nodeagent.model.names import is_service_name

NODE = "/v1/catalog/node/"


class _RegisteredNode(msgspec.Struct, rename="pascal"):
    """A machine with what is registered there, by ID."""

    services: dict[str, ListedService] | None = None


def services_at(body: bytes, wanted: AbstractSet[int | str] | None = None) -> frozenset[str]:
    """The names of applications that an answer of `/v1/catalog/node/NODE` shows: all, or a few at most of those at these ports and of these names.

    Raises:
        CatalogError: not such an answer.
    """
    node = decode(body, _RegisteredNode, NODE)
    rows = [row for row in (node.services or {}).values() if _is_application(row)] if node else []
    names = sorted({_name_of(row) for row in rows if wanted is None or wanted & _ways_to(row)})
    return frozenset(names if wanted is None else names[: limits.FIRST_USE_SERVICES])


def _is_application(service: ListedService) -> bool:
    name = _name_of(service)
    return service.kind in APPLICATIONS and not service.peer_name and is_service_name(name) and name not in RESERVED_SERVICES


def _name_of(service: ListedService) -> str:
    """As Consul takes it where it is asked for one: large letters are small ones."""
    return service.service.lower()


def _ways_to(service: ListedService) -> set[int | str]:
    """Its name and its ports inside the mesh; a label that holds a DNS name gives an instance no address."""
    tagged = (service.tagged_addresses or {}).items()
    return {_name_of(service), service.port, *(at.port for tag, at in tagged if is_lan_tag(tag) and _is_ip(at.address))}


def _is_ip(text: str) -> bool:
    try:
        canonical_ip(text)
    except ValueError:
        return False
    return True
