"""Consul's JSON as it comes: the fields that are read, and the smallest checks, each naming path and value."""

import re
from typing import TypeVar

import msgspec

from nodeagent import limits
from nodeagent.errors import CatalogError
from nodeagent.model.address import canonical_ip

Row = TypeVar("Row")

# At least one letter, so that `10.0.0.999` is a mistake and not a name.
_DNS_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)

_NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class TaggedAt(msgspec.Struct, rename="pascal", gc=False):
    """One of a service's further addresses."""

    address: str = ""
    port: int = 0


class NodeRow(msgspec.Struct, rename="pascal"):
    """A machine."""

    node: str
    address: str = ""
    tagged_addresses: dict[str, str] | None = None
    meta: dict[str, str] | None = None


class Weights(msgspec.Struct, rename="pascal", gc=False):
    """How much of the traffic an instance takes, by its worst check."""

    passing: int = 1
    warning: int = 1


class ServiceRow(msgspec.Struct, rename="pascal"):
    """One registration."""

    id: str = msgspec.field(default="", name="ID")
    kind: str = ""
    """Empty for an application; else a proxy or gateway of Consul's own mesh."""
    address: str = ""
    port: int = 0
    tagged_addresses: dict[str, TaggedAt] | None = None
    tags: list[str] | None = None
    meta: dict[str, str] | None = None
    weights: Weights | None = None
    create_index: int = 0
    """When this id was first registered on its machine, by the catalog's count; kept until it is deregistered."""
    modify_index: int = 0
    """When it was last changed, by the catalog's count; to be told the same again changes nothing."""


class CheckRow(msgspec.Struct, rename="pascal", gc=False):
    """One health check: `passing`, `warning` or `critical`."""

    status: str
    check_id: str = msgspec.field(default="", name="CheckID")


class HealthRow(msgspec.Struct, rename="pascal"):
    """A registration, where it runs and how it does."""

    node: NodeRow
    service: ServiceRow
    checks: list[CheckRow] | None = None


class ListedService(ServiceRow, rename="pascal"):
    """A registration among all of its machine's."""

    service: str = ""
    """The name."""
    peer_name: str = ""


class ListedCheck(CheckRow, rename="pascal", gc=False):
    """A health check among all of its machine's."""

    service_id: str = msgspec.field(default="", name="ServiceID")
    """Empty: it is about the machine."""


class ListedNode(NodeRow, rename="pascal"):
    """A machine with what is registered there."""

    services: list[ListedService] | None = None
    checks: list[ListedCheck] | None = None
    peer_name: str = ""
    """Of another cluster, which this one was told of."""


class SourceEntry(msgspec.Struct, rename="pascal"):
    """Who may or may not call, in a service-intentions entry."""

    name: str
    action: str = ""
    permissions: list[object] | None = None
    type: str = "consul"
    namespace: str = ""
    partition: str = ""
    peer: str = ""
    sameness_group: str = ""


class IntentionsEntry(msgspec.Struct, rename="pascal"):
    """A service-intentions entry: all sources of one destination."""

    name: str
    sources: list[SourceEntry] | None = None
    jwt: dict[str, object] | None = msgspec.field(default=None, name="JWT")
    namespace: str = ""
    partition: str = ""


class KeptValue(msgspec.Struct, rename="pascal"):
    """A row of the KV store."""

    key: str
    value: str | None = None
    """In base64."""


class ServiceDefaultsEntry(msgspec.Struct, rename="pascal"):
    """A service-defaults entry."""

    name: str
    protocol: str = ""


class ProxyDefaultsEntry(msgspec.Struct, rename="pascal"):
    """A proxy-defaults entry; only the one called `global` counts."""

    name: str
    config: dict[str, object] | None = None


def rows_of(body: bytes, row: type[Row], where: str, most: int) -> list[Row]:
    """The rows of an answer that is a list, or nothing.

    Raises:
        CatalogError: not JSON, another shape, or more than `most`; `where` is what messages call the answer.
    """
    rows: list[Row] = decode(body, list[row], where) or []  # type: ignore[valid-type]  # a type made at run time
    within(len(rows), most, where)
    return rows


def decode(body: bytes, shape: type[Row], where: str) -> Row | None:
    """The answer in this shape; None for JSON's null.

    Raises:
        CatalogError: not JSON or another shape.
    """
    try:
        return msgspec.json.decode(body, type=shape | None)
    except _NOT_JSON as error:
        what = _with_value(error, body) if isinstance(error, msgspec.ValidationError) else f"not JSON: {error}"
        raise CatalogError(f"{where}: {what}") from error


def within(count: int, most: int, where: str) -> None:
    """Nothing, or a CatalogError where there are more than `most`: one answer must not take all memory."""
    if count > most:
        raise CatalogError(f"{where}: {count} rows; at most {most} are taken")


def ip_of(text: str, path: str, where: str) -> str:
    """The canonical IP address in `text`; empty for nothing or a DNS name.

    Raises:
        CatalogError: neither.
    """
    try:
        return canonical_ip(text) if text else ""
    except ValueError:
        if _DNS_NAME.fullmatch(text):
            return ""
        raise CatalogError(f"{where}: {path} is {short(text)}: neither an IP address nor a DNS name") from None


def port_of(number: int, path: str, where: str) -> int:
    """The port; 0 where none is registered.

    Raises:
        CatalogError: out of range.
    """
    if not 0 <= number <= 65535:
        raise CatalogError(f"{where}: {path} is {number}; a port is in 0..65535")
    return number


def is_name(text: str) -> bool:
    """Whether anything of the mesh may be called this at all."""
    return 0 < len(text) <= limits.CATALOG_NAME_CHARS and text.isprintable()


def name_of(text: str, path: str, where: str) -> str:
    """A name, as it came.

    Raises:
        CatalogError: empty, too long, or with characters that cannot be printed.
    """
    if not is_name(text):
        most = limits.CATALOG_NAME_CHARS
        raise CatalogError(f"{where}: {path} is {short(text)}; a name has 1 to {most} printable characters")
    return text


def short(value: object) -> str:
    """The value for a message: quoted, and no longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _with_value(error: msgspec.ValidationError, body: bytes) -> str:
    """The error's message with path and the value found there."""
    what, _, path = str(error).partition(" - at `")
    path = path.rstrip("`") or "$"
    try:
        value: object = msgspec.json.decode(body)
    except _NOT_JSON:
        return f"{path}: {what}"
    for key, index in re.findall(r"\.([A-Za-z]+)|\[(\d+)\]", path):
        if key and isinstance(value, dict) and key in value:
            value = value[key]
        elif index and isinstance(value, list):
            value = value[int(index)]
        else:
            return f"{path}: {what}"
    return f"{path} is {short(value)}: {what}"
