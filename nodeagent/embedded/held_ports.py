"""Ports that are held: whoever registers a service at another's would have that one called by its name.

A token for services is for no host, so it takes no part of one from what runs there. A port where nobody is registered it may have.
"""

import sqlite3
from collections.abc import Iterable, Iterator

from nodeagent.catalog.state import is_lan_tag
from nodeagent.embedded.access import Caller
from nodeagent.embedded.refusal import Forbidden
from nodeagent.embedded.registration import ServiceRow
from nodeagent.embedded.registrations import read_node, read_service, read_services_of

Places = set[tuple[str, int]]
"""Addresses and ports."""


def check_ports(connection: sqlite3.Connection, caller: Caller, row: ServiceRow) -> None:
    """Nothing, where no other service holds an address and port of the row; one that it names already it may keep.

    Raises:
        Forbidden: one does; names it, with the cure.
    """
    known = read_service(connection, row.node, row.id)
    new = _named(row) - (_named(known.value) if known else set())  # by the letter: what they mean changes with the host's addresses
    machines = _Machines(connection)
    own = machines.addresses_of(row.node)
    named, all_of_it = _at_each(new, own), machines.all_places(new, row.node)
    for other in _around(connection, all_of_it):
        if other.name == row.name or (other.node, other.id) == (row.node, row.id):
            continue
        is_same = other.node == row.node  # there a new instance is the last to come: besides what it names it takes nothing from who was first
        for ip, port in sorted((named if is_same and not known else all_of_it) & machines.all_places(_named(other), other.node)):
            raise Forbidden(
                f"{caller} may not register {row.name} at {row.node if ip in own else ip}:{port}: {other.name} (ID {other.id}"
                f"{'' if is_same else f' on {other.node}'}) is registered there; "
                f"if it is gone from there, deregister it first, else take another port"
            )


class _Machines:
    """Whose the addresses are, as agents see it. Owned by one `check_ports`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._addresses: dict[str, frozenset[str]] = {}

    def addresses_of(self, node: str) -> frozenset[str]:
        """A host's own: of labelled ones those that count inside the mesh."""
        if node not in self._addresses:
            stored = read_node(self._connection, node)
            tagged = stored.value.tagged.items() if stored else ()
            found = {ip for tag, ip in tagged if is_lan_tag(tag)} | ({stored.value.address} if stored else set())
            self._addresses[node] = frozenset(found)
        return self._addresses[node]

    def all_places(self, named: Places, node: str) -> Places:
        """Where calls mean what is registered so on a host: at each of its addresses, too, as the agent there takes its ports.

        An address of another machine is taken by no agent but that one's.
        """
        own = self.addresses_of(node)
        taken = {("", port) for ip, port in named if ip in own or not (ip and self._is_anothers(ip, node))}
        return _at_each(named | taken, own)

    def _is_anothers(self, ip: str, node: str) -> bool:
        found = self._connection.execute("SELECT node FROM addresses WHERE ip = ? AND service = '' AND node != ?", (ip, node))
        return any(ip in self.addresses_of(other) for (other,) in found)


def _named(row: ServiceRow) -> Places:
    """The addresses and ports that the row says, as far as agents heed them; the empty address is each of its host."""
    at = {(row.address, row.port)}
    at |= {(tagged.address, tagged.port or row.port) for tag, tagged in row.tagged.items() if is_lan_tag(tag)}
    return {(ip, port) for ip, port in at if port}


def _at_each(places: Places, own: Iterable[str]) -> Places:
    """The places, those of the empty address at each of a host's."""
    return {(ip, port) for said, port in places for ip in ([said] if said else own)}


def _around(connection: sqlite3.Connection, places: Places) -> Iterator[ServiceRow]:
    """Whoever may hold one of the places: what runs on the hosts that have such an address, and what is registered at one."""
    sql = "SELECT node, service FROM addresses WHERE ip = ?"
    for node, service in sorted({found for ip in {ip for ip, _ in places} for found in connection.execute(sql, (ip,))}):
        if not service:
            yield from (stored.value for stored in read_services_of(connection, node))
        elif stored := read_service(connection, node, service):
            yield stored.value
