"""Whether a change concerns this host itself, or only what is known of others."""

from nodeagent.catalog.diff import Delta
from nodeagent.catalog.registrations import ip_in
from nodeagent.model.snapshot import Snapshot


def concerns_host(old: Snapshot, new: Snapshot, delta: Delta) -> bool:
    """Whether what the kernel captures or lets bypass, or who speaks from here, may differ. Quick, and says yes where unsure.

    old, new: under one configuration, which decides the same things.
    """
    # 1) Whose an address is decides where it is captured; what holds for the host decides the rest.
    if delta.mesh or delta.owners or delta.ports:
        return True
    # 2) Endpoints are told one by one where services differ in what may bypass a dead agent.
    told_each = new.mesh.fail != "closed" or bool(new.mesh.fail_open)
    if delta.addresses and told_each:
        return True
    # 3) An address that no machine owns is captured while something is registered there; who decides at this host's own speaks from here.
    owners = (new.host_by_ip.get(ip_in(key)) for key in delta.addresses)
    if any(owner is None or owner.name == new.mesh.host for owner in owners):
        return True
    # 4) What is registered here.
    names = (*(service.name for service in delta.services), *delta.removed)
    services = (snapshot.services.get(name) for snapshot in (old, new) for name in names)
    return any(service.is_on(new.mesh.host) for service in services if service)
