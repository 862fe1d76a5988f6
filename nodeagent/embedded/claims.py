"""Whose an address is: which of two claims wins, and the table that remembers them.

A host that could register any address would draw the traffic of others to itself. So a host's token may claim what the
operator named when it was made, else what its first registration said; and what is named wins over what was merely first.
"""

import sqlite3
from typing import NamedTuple

from nodeagent.embedded.access import Caller, RemoveService, check_access, title_of
from nodeagent.embedded.database import Change
from nodeagent.embedded.held_ports import check_ports
from nodeagent.embedded.refusal import Forbidden
from nodeagent.embedded.registration import NodeRow, ServiceRow
from nodeagent.embedded.registrations import (
    delete_node,
    delete_service,
    put_node,
    put_service,
    read_service,
)
from nodeagent.embedded.tokens import fix_addresses, read_token


class Holder(NamedTuple):
    """Who has an address, and by which title."""

    ip: str
    node: str
    service: str
    """The ID of the instance that was registered there; empty: it is the host's own address."""
    title: int

    def __str__(self) -> str:
        return f"{self.ip} of {f'service {self.service} on ' if self.service else ''}{self.node}"


def register_node(change: Change, caller: Caller, row: NodeRow) -> list[Holder]:
    """Stores a host with its addresses; gives the claims that had to go. The first one fixes what an unnamed token has.

    Raises:
        Forbidden: an address is not the caller's to claim, or another has it by a title as good.
        TooLarge: the row or the table is too large.
    """
    caller = as_stored(change, caller)
    titles = {ip: title_of(caller, ip, is_host=True) for ip in sorted(row.ips())}
    gone = [holder for ip, title in titles.items() for holder in _settle(change, caller, row.name, ip, title)]
    put_node(change, row)
    _remember(change, row.name, "", titles)
    if caller.is_unbound:
        fix_addresses(change, caller.accessor, tuple(titles))
    return gone


def register_service(change: Change, caller: Caller, row: ServiceRow) -> list[Holder]:
    """Stores an instance with its addresses; gives the claims that had to go. Its host's own need no other title.

    Raises:
        Forbidden, TooLarge: as `register_node`; or its ID, or its port, is another's.
        BadRequest: its host is not registered.
    """
    caller = as_stored(change, caller)
    known = read_service(change.connection, row.node, row.id)
    if known is not None and known.value.name != row.name:  # its ID would become another's
        check_access(caller, RemoveService(row.node, known.value.name))
    own = _titles(change.connection, row.node)
    titles, gone = {}, []
    for ip in sorted(row.ips()):
        titles[ip] = own[ip] if ip in own else title_of(caller, ip, is_host=False)
        if ip not in own:
            gone += _settle(change, caller, row.node, ip, titles[ip])
    if caller.kind == "service":
        check_ports(change.connection, caller, row)
    put_service(change, row)
    _remember(change, row.node, row.id, titles)
    return gone


def remove_service(change: Change, caller: Caller, node: str, service_id: str) -> bool:
    """Removes one instance; whether there was one. Whose it is says its name, which only the table knows.

    Raises:
        Forbidden: it is not the caller's to remove.
    """
    stored = read_service(change.connection, node, service_id)
    check_access(caller, RemoveService(node, stored.value.name if stored else ""))
    return delete_service(change, node, service_id)


def holders_of(connection: sqlite3.Connection, ip: str, besides: str) -> list[Holder]:
    """Who has the address `ip`, other than the host `besides`; the best title first."""
    sql = "SELECT ip, node, service, title FROM addresses WHERE ip = ? AND node != ? ORDER BY title DESC, node, service"
    return [Holder(*row) for row in connection.execute(sql, (ip, besides))]


def ips_of(connection: sqlite3.Connection, node: str) -> set[str]:
    """Every address that the host, or an instance on it, has."""
    return {ip for (ip,) in connection.execute("SELECT ip FROM addresses WHERE node = ?", (node,))}


def as_stored(change: Change, caller: Caller) -> Caller:
    """The caller as the database has it now: an earlier write may have fixed its addresses, or revoked it."""
    if caller.kind == "management":
        return caller
    stored = read_token(change.connection, caller.accessor)
    if stored is None:
        raise Forbidden("the token is unknown or was revoked")
    return stored.caller


def _settle(change: Change, caller: Caller, node: str, ip: str, title: int) -> list[Holder]:
    """Takes the address from those with a weaker title.

    What management says is never refused, and takes nothing away: an operator may register one address at two hosts. A service's
    token takes nothing away either, by whatever title: it is for no host, and for no other service.
    """
    if caller.kind == "management":
        return []
    weaker = holders_of(change.connection, ip, besides=node)
    if weaker and caller.kind == "service":
        raise Forbidden(f"{caller} may not claim {ip}: it belongs to {weaker[0].node}; if that is wrong, deregister it there")
    if weaker and weaker[0].title >= title:
        raise Forbidden(
            f"{caller} may not claim {ip}: it belongs to {weaker[0].node}; if that is wrong, deregister it there,"
            f" or give {node} a token made with --address {ip}"
        )
    for holder in weaker:
        if holder.service:
            delete_service(change, holder.node, holder.service)
        else:
            delete_node(change, holder.node)
    return weaker


def _titles(connection: sqlite3.Connection, node: str, service: str = "") -> dict[str, int]:
    sql = "SELECT ip, title FROM addresses WHERE node = ? AND service = ?"
    return dict(connection.execute(sql, (node, service)))


def _remember(change: Change, node: str, service: str, titles: dict[str, int]) -> None:
    if _titles(change.connection, node, service) == titles:
        return  # the same registration again: no write, so no wait for the disk
    change.connection.execute("DELETE FROM addresses WHERE node = ? AND service = ?", (node, service))
    rows = [(ip, node, service, title) for ip, title in titles.items()]
    change.connection.executemany("INSERT INTO addresses VALUES (?, ?, ?, ?)", rows)
