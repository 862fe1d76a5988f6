"""What may bypass a dead agent: told to the kernel while the agent lives, as exceptions from what holds for all else."""

from typing import NamedTuple

from nodeagent.decide.mode import mode_of
from nodeagent.model.address import Address
from nodeagent.model.snapshot import Fail, Snapshot


class Exceptions(NamedTuple):
    """Where the fail mode of unregistered ports does not hold, sorted."""

    fail: Fail
    """That mode: `open` and they stay closed, `closed` and they may be bypassed."""
    endpoints: tuple[Address, ...] = ()
    ports: tuple[int, ...] = ()
    """Of this host."""


def may_bypass(snapshot: Snapshot, service: str) -> bool:
    """Whether calls to the service may go around a dead agent: never to one that is strict."""
    mesh = snapshot.mesh
    is_open = service in mesh.fail_open or (mesh.fail == "open" and service not in mesh.fail_closed)
    return is_open and mode_of(snapshot, service) != "strict"


def exceptions_of(snapshot: Snapshot) -> Exceptions:
    """The registered endpoints, and ports of this host, of services that differ from what holds for all else.

    Services may share a port at different addresses, while the rules ask for the port alone: so the strictest decides.
    """
    mesh = snapshot.mesh
    if mesh.fail == "closed" and not mesh.fail_open:
        return Exceptions("closed")
    others = mesh.unnamed_fail == "open"
    differ = {name for name in snapshot.services if may_bypass(snapshot, name) != others}
    endpoints = (address for address, found in snapshot.by_address.items() if found.service.name in differ)
    counts = any if others else all
    ports = (port for port, names in snapshot.local_services().items() if counts(name in differ for name in names))
    return Exceptions(mesh.unnamed_fail, tuple(sorted(endpoints)), tuple(sorted(ports)))
