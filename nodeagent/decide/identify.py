"""Which service a process speaks as."""

from nodeagent.model.names import is_service_name
from nodeagent.model.snapshot import Snapshot
from nodeagent.model.workload import Workload

_SUFFIX = ".service"


def service_of(snapshot: Snapshot, workload: Workload) -> str:
    """The service that `workload` speaks as; empty: it is unidentified.

    The first rule of the configuration that matches decides; where none does, `identity.units`: the unit of the same
    name as a service registered on this host, any unit, or the units that are listed.
    """
    for rule in snapshot.mesh.workloads:
        if rule.selector.matches(workload):
            return rule.service if is_service_name(rule.service) else ""
    name = workload.unit.removesuffix(_SUFFIX)
    if name == workload.unit or not is_service_name(name):
        return ""
    return name if _speaks_by_its_name(snapshot, name) else ""


def _speaks_by_its_name(snapshot: Snapshot, name: str) -> bool:
    """Whether the unit of this name may speak as the service of this name."""
    units = snapshot.mesh.units
    if units == "any":
        return True
    if units == "registered":
        service = snapshot.services.get(name)
        return service is not None and any(i.host == snapshot.mesh.host for i in service.instances)
    return name in units or name + _SUFFIX in units
