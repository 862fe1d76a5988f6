"""Ports that are held: whoever registers a service at another's would have that one called by its name.

A token for services is for no host, so it takes no part of one from what runs there. A port where nobody is registered it may have.
"""

import sqlite3
from collections.abc import Collection

from nodeagent.embedded.access import Caller
from nodeagent.embedded.refusal import Forbidden
from nodeagent.embedded.registration import ServiceRow
from nodeagent.embedded.registrations import read_services_of


def check_ports(connection: sqlite3.Connection, caller: Caller, row: ServiceRow, own: Collection[str]) -> None:
    """Nothing, where no other service holds an address and port of the row; what the row had before, it may keep.

    own: the host's addresses.

    Raises:
        Forbidden: one does; names it, with the cure.
    """
    registered = read_services_of(connection, row.node)
    before = {place for stored in registered if stored.value.id == row.id for place in _places(stored.value, own)}
    wanted = _places(row, own) - before
    for other in (stored.value for stored in registered if stored.value.name != row.name and stored.value.id != row.id):
        for ip, port in sorted(wanted & _places(other, own)):
            raise Forbidden(
                f"{caller} may not register {row.name} at {ip or row.node}:{port}: {other.name} (ID {other.id}) is registered there; "
                f"if it is gone from there, deregister it first, else take another port"
            )


def _places(row: ServiceRow, own: Collection[str]) -> set[tuple[str, int]]:
    """The addresses and ports of an instance; all addresses of its host are one, the empty, as its agent takes a port at each."""
    at = {(row.address, row.port), *((tagged.address, tagged.port or row.port) for tagged in row.tagged.values())}
    return {("" if ip in own else ip, port) for ip, port in at if port}
