"""What Consul's own agent looks at on this host by an address of the mesh, where its calls are captured as everybody's are."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nodeagent.model.address import Address

_DIALS = ("tcp", "http", "grpc")
_BODY = " Output: "
"""What comes after it in a result is the application's word."""


def looped_checks(rows: Iterable[Mapping[str, Any]], instance: str, addresses: Iterable[str], port: int) -> tuple[str, ...]:
    """Ids of the checks of an instance that dial it at one of these addresses, as their last results tell. rows: of `/v1/health/node/NAME`."""
    places = [re.compile(rf"(?<![\w.:]){re.escape(str(Address(ip, port)))}(?!\d)") for ip in addresses]
    own = (row for row in rows if row.get("ServiceID") == instance and row.get("Type") in _DIALS)
    return tuple(str(row.get("CheckID")) for row in own if any(place.search(_result(row)) for place in places))


def _result(row: Mapping[str, Any]) -> str:
    return str(row.get("Output", "")).partition(_BODY)[0]
