"""Names of hosts and services in request bodies: what they may be is said in one place, the model."""

from typing import Any

from nodeagent.model.intention import ANY
from nodeagent.model.names import HOST_NAME_RULE, NAME_RULE, is_host_name, is_service_name


class Name(str):
    """The name of a service, as a type of request bodies; rows hold it as plain text."""

    __slots__ = ()


class HostName(Name):
    """The name of a host."""

    __slots__ = ()


class NameOrAny(Name):
    """The same, or `*`."""

    __slots__ = ()


def decode_name(kind: type, value: object) -> Any:
    """For msgspec: `value` as a `kind`.

    Raises:
        ValueError: it cannot be that name.
    """
    if not issubclass(kind, Name):
        raise TypeError(f"no shape has a {kind}")
    if not isinstance(value, str):
        raise ValueError("Expected `str`")  # noqa: TRY004 - msgspec adds the key to a ValueError
    is_valid = is_host_name if issubclass(kind, HostName) else is_service_name
    if not (is_valid(value) or (kind is NameOrAny and value == ANY)):
        raise ValueError(f"{value[:80]!r} is no name: use {HOST_NAME_RULE if is_valid is is_host_name else NAME_RULE}")
    return kind(value)
