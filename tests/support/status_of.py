"""The status of an agent, as far as reloads are about it."""

from nodeagent.control.report import CatalogPart, IdentityPart, InterceptionPart, Status, SupervisorPart, WorkerPart


def status_of(generation: int, version: str, refused: int = 0) -> Status:
    """Of an agent with one worker that serves; generation 0: its supervisor was not heard."""
    supervisor = SupervisorPart(
        pid=7, version=version, started_at=0, heard_s=0, generation=generation, reloads_refused=refused, reload_refused="a typo"
    )
    worker = WorkerPart(
        number=0, pid=8, state="serving", started_at=0, restarts=0, connections=0, agent_generation=generation, version=version,
        drain_until=0,
    )  # fmt: skip
    return Status(
        host="h", datacenter="dc1", mode="strict", version=version, control_pid=9, control_started_at=0, healthy=True,
        problems=[], warnings=[], supervisor=supervisor if generation else None, interception=InterceptionPart(state="active"),
        workers=[worker], catalog=CatalogPart(address="", connected=True, source="none", generation=0, age_s=0),
        identity=IdentityPart(trust_domain="", roots=0, certificates=0, missing=[]),
    )  # fmt: skip
