"""The state of this agent as the admin API's types: reads, decides nothing but what is called a problem."""

import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from certs.svid import Svid
from nodeagent import __version__, limits
from nodeagent.config import Config, why_never_captured
from nodeagent.control.clock import clock_problem
from nodeagent.control.displaced import displaced_alarms
from nodeagent.control.environment import Environment
from nodeagent.control.follow import Follower
from nodeagent.control.generations import generations_of
from nodeagent.control.identity import Identity
from nodeagent.control.keeper import Keeper
from nodeagent.control.ledger import Ledger
from nodeagent.control.modes import ModeBook
from nodeagent.control.publish import Publisher
from nodeagent.control.report import (
    LOGS,
    CatalogPart,
    CertificatePart,
    CertsAnswer,
    IdentityPart,
    InstancePart,
    IntentionPart,
    InterceptionPart,
    ServicePart,
    ServicesAnswer,
    Status,
    SupervisorPart,
    WorkerPart,
    the_first,
)
from nodeagent.control.supervisor import Supervisor
from nodeagent.control.trust import Trust
from nodeagent.control.workers import Workers
from nodeagent.decide.route import implied_addresses
from nodeagent.model.address import parse_address
from nodeagent.model.intention import Intention
from nodeagent.model.names import name_complaint
from nodeagent.model.service import Instance, Service
from nodeagent.model.snapshot import Snapshot
from nodeagent.wire.frames import WorkerFacts, WorkerStats

_ENDING = 0.1  # of a certificate's life: renewal has failed for 40 % of it
_LAGGING_S = 0.1


@dataclass(frozen=True, slots=True)
class View:
    """All parts of control, to be looked at."""

    config: Config
    env: Environment
    started_at: float
    publisher: Publisher
    follower: Follower
    identity: Identity
    workers: Workers
    supervisor: Supervisor
    modes: ModeBook
    ledger: Ledger
    failing: Mapping[str, str]
    """Parts of control that do not run, and why."""

    def status(self) -> Status:
        """GET /v1/status."""
        table = self.config.host
        problems, workers = list(self._problems()), list(self._workers())
        return Status(
            host=table.name, datacenter=table.datacenter, mode=self.modes.config.host.mode, version=__version__,
            control_pid=os.getpid(), control_started_at=self.started_at,
            healthy=not problems, problems=problems, warnings=list(dict.fromkeys(self._warnings())),
            supervisor=self._supervisor(), interception=self._interception(), workers=workers, generations=generations_of(workers),
            catalog=self._catalog(), identity=self._identity(),
        )  # fmt: skip

    def services(self) -> ServicesAnswer:
        """GET /v1/services."""
        snapshot = self.publisher.snapshot
        if snapshot is None:
            return ServicesAnswer(generation=0, services=[], wildcards=[])
        rows = [_service_part(self.config, snapshot, service) for _, service in sorted(snapshot.services.items())]
        return ServicesAnswer(
            generation=snapshot.generation, services=rows, wildcards=[_intention_part(i) for i in snapshot.wildcards]
        )

    def certs(self) -> CertsAnswer:
        """GET /v1/certs."""
        trust = self.identity.trust
        return CertsAnswer(
            trust_domain=trust.bundle.trust_domain if trust else "",
            roots=sorted(trust.ids) if trust else [],
            active_root=trust.active_id if trust else "",
            certificates=[_certificate_part(k, self.env.now()) for _, k in sorted(self.identity.keepers.items())],
            revoked=sorted(trust.revoked) if trust else [],
        )

    @property
    def is_supervisor_silent(self) -> bool:
        """For so long that the kernel's switch has fallen: who says nothing here does not beat there."""
        return self.env.now() - max(self.supervisor.heard_at, self.started_at) > limits.ALIVE_S

    @property
    def is_anybody_serving(self) -> bool:
        """A worker, as the supervisor spoke last."""
        return any(worker.state == "serving" for worker in (self.supervisor.stats.workers if self.supervisor.stats else ()))

    # --- what somebody must act on, and what we cope with ----------------------------------------------------------

    def _problems(self) -> Iterator[str]:
        if self.publisher.snapshot is None:
            yield "no snapshot: the catalog was not heard yet and none is saved; calls to intercept.mesh_cidrs are refused, others leave in clear"
        if "compile" in self.publisher.errors:
            yield f"the catalog's last change is not in force: {self.publisher.errors['compile']}"
        since = self.follower.lost_since
        if since is not None and self.env.now() - since >= limits.CATALOG_LOST_S:
            yield f"the catalog is out of reach, changes do not arrive: {self.follower.why_lost}"
        elif self.identity.is_shut_out:
            yield (
                f"the catalog refuses this host's token, and other hosts its certificates if it was revoked: {self.identity.complaint}; "
                f"put a new one into {self.config.catalog.token_file or 'a file, catalog.token_file'} (nodeagent catalog token create)"
            )
        elif since is None and self.follower.pulse_error:
            yield f"the catalog's answers are not taken, changes do not arrive: {self.follower.pulse_error}"
        if clock := clock_problem(self.identity.clock_ahead_s, self._svids(), self.env.now()):
            yield clock
        if self.identity.trust is None and (since is not None or self.identity.complaint):
            why = "until the catalog, where the CA is, answers" if since is not None else f"for {self.identity.complaint}"
            yield f"the mesh's roots are not known: no tunnel opens {why}"
        for keeper in self.identity.keepers.values():
            if keeper.svid is None and keeper.error:
                yield f"no certificate for {keeper.service}: {'; '.join(filter(None, (keeper.lost, keeper.error)))}"
        yield from self._local_problems()

    def _local_problems(self) -> Iterator[str]:
        if self.modes.complaint:
            yield self.modes.complaint
        for name, why in sorted(self.failing.items()):
            yield f"{name} does not run, and is tried again: {why}"
        for link in self.workers.links:
            if link.stats and link.stats.used_up:
                yield f"worker {link.number} has used up its {link.stats.used_up} descriptors and refuses calls: raise LimitNOFILE="
        yield from self._supervisor_problems()

    def _supervisor_problems(self) -> Iterator[str]:
        stats = self.supervisor.stats
        if self.is_supervisor_silent:
            yield f"the supervisor is silent: new connections get what `fail` says; where no watchdog ends it, systemctl restart nodeagent; {LOGS}"
            return
        if stats is None:
            yield "the supervisor was not heard yet: this control has just started; ask again"
            return
        if self.config.intercept.enabled and stats.interception not in ("active", "repaired"):
            yield f"interception is {stats.interception}: {stats.interception_detail or 'no detail'}"
        if stats.sentry_trouble:
            yield f"no sentry watches, and who calls as all of the agent hangs will wait: {stats.sentry_trouble}; {LOGS}"
        if not self.is_anybody_serving:
            yield f"no worker is serving; {LOGS}"
        elif stats.unserved:
            yield f"{stats.unserved} of the workers' places stand empty, and the others serve their share; {LOGS}"

    def _warnings(self) -> Iterator[str]:
        yield from the_first(self.follower.alarms())
        if self.follower.rewind_alarm:
            yield self.follower.rewind_alarm
        yield from one_line(self.config.catalog.address, self._catalog_complaints(), self.follower.why_lost)
        yield from (why for step, why in sorted(self.publisher.errors.items()) if step != "compile")
        if self.ledger.unsaved:
            yield self.ledger.unsaved
        if self.publisher.source == "saved":
            yield "decisions are made by the saved snapshot: the catalog was not heard since the agent started"
        for keeper in self.identity.keepers.values():
            if keeper.svid and (keeper.error or _is_ending(keeper, self.env.now())):
                yield f"the certificate of {keeper.service} was not renewed: {keeper.error or 'it ends soon'}"
        yield from self.follower.checks.notes()
        yield from self._mode_warnings()
        yield from self._open_warnings()
        yield from self._worker_warnings()
        yield from self.publisher.notes

    def _catalog_complaints(self) -> Iterator[str]:
        if self.identity.is_shut_out:  # a problem, and the one cause of all
            return
        yield from self.follower.complaints()
        if self.identity.complaint:
            yield self.identity.complaint

    def _mode_warnings(self) -> Iterator[str]:
        """Where the file says something else than what holds: a reader of the file would be wrong about this host."""
        modes = self.modes.modes
        for service, switched in [("", modes.host), *sorted(modes.services.items())]:
            if switched and switched.mode != self.modes.configured(service):
                what = f"{service} is" if service else "this host is"
                word = self.modes.configured(service)
                yield f"{what} {switched.mode} by `nodeagent enforce`; the file says {word or 'nothing of it'}"

    def _open_warnings(self) -> Iterator[str]:
        """What is not protected, and who may read what the agent tells."""
        unusable = self.follower.seen.unusable
        if unusable:
            more = f" (and {len(unusable) - 1} more services)" if len(unusable) > 1 else ""
            yield f"in the catalog and not in the mesh{more}: {name_complaint(unusable[0])}"
        snapshot = self.publisher.snapshot
        for port, (service, _) in sorted(snapshot.local_by_port.items()) if snapshot else ():
            if why := why_never_captured(self.config, port):
                yield f"{service.name} is called past the agent, by anybody: {why}"
        yield from displaced_alarms(snapshot) if snapshot else ()
        if drained := drained_here(snapshot):
            yield f"drained, so that balancers send no new work: {', '.join(drained)}; to end that: nodeagent undrain"
        metrics = self.config.admin.metrics
        if metrics and not ipaddress.ip_address(parse_address(metrics).ip).is_loopback:
            yield f"admin.metrics: whoever reaches {metrics} reads who talks to whom; 127.0.0.1 is for this host alone"

    def _worker_warnings(self) -> Iterator[str]:
        stats = self.supervisor.stats
        if stats and stats.reload_refused:
            yield f"reload refused, all goes on as before: {stats.reload_refused}"
        if self.workers.cut:
            yield self.workers.cut
        if self.ledger.complaint:
            yield self.ledger.complaint
        if self.ledger.dropped:
            yield f"{self.ledger.dropped} connection records were lost: workers could not send them in time"
        for link in self.workers.links:
            if link.stats and link.stats.lag_s > _LAGGING_S:
                yield f"worker {link.number} is {link.stats.lag_s:.2f} s late: more workers or less load"

    # --- parts -----------------------------------------------------------------------------------------------------

    def _supervisor(self) -> SupervisorPart | None:
        stats = self.supervisor.stats
        if stats is None:
            return None
        heard_s = max(self.env.now() - self.supervisor.heard_at, 0.0)
        return SupervisorPart(
            pid=stats.pid, version=stats.version, started_at=stats.started_at, heard_s=heard_s, generation=stats.generation,
            reloads_refused=stats.reloads_refused, reload_refused=stats.reload_refused, configured_at=stats.configured_at,
            control_stalls=stats.control_stalls, control_stalled_at=stats.control_stalled_at,
        )  # fmt: skip

    def _interception(self) -> InterceptionPart:
        stats, captured = self.supervisor.stats, self.supervisor.captured
        return InterceptionPart(
            state=stats.interception if stats else "unknown",
            detail=stats.interception_detail if stats else "",
            repairs=stats.repairs if stats else 0,
            units=stats.units if stats else 0,
            bypassed=stats.bypassed if stats else 0,
            addresses=len(captured.addresses) if captured else 0,
            ports=len(captured.ports) if captured else 0,
        )

    def _workers(self) -> Iterator[WorkerPart]:
        links = {link.pid: link.stats for link in self.workers.links}
        facts = {w.pid: w for w in self.supervisor.stats.workers} if self.supervisor.stats else {}
        for link in self.workers.links:
            facts.setdefault(link.pid, WorkerFacts(link.number, link.pid, 0.0, 0, "starting"))
        for fact in sorted(facts.values(), key=lambda fact: (fact.number, fact.pid)):
            yield _worker_part(fact, links.get(fact.pid), has_channel=fact.pid in links)

    @property
    def age_s(self) -> float:
        """Seconds since the catalog last confirmed what is in force; 0: nothing is."""
        confirmed_at = self.follower.confirmed_at if self.publisher.source == "catalog" else self.publisher.heard_at
        return max(self.env.now() - confirmed_at, 0.0) if self.publisher.snapshot else 0.0

    def _catalog(self) -> CatalogPart:
        snapshot = self.publisher.snapshot
        return CatalogPart(
            address=self.config.catalog.address,
            connected=self.follower.lost_since is None,
            source=self.publisher.source,
            generation=snapshot.generation if snapshot else 0,
            age_s=self.age_s,
            error=self.follower.why_lost,
            services=len(snapshot.services) if snapshot else 0,
            hosts=len(snapshot.hosts) if snapshot else 0,
            found=[*self.follower.found, *(["certificates by Connect"] if self.identity.is_by_connect else [])],
        )

    def _svids(self) -> list[Svid]:
        return [keeper.svid for keeper in self.identity.keepers.values() if keeper.svid]

    def _identity(self) -> IdentityPart:
        trust = self.identity.trust
        held = self._svids()
        soonest = min(held, key=lambda svid: svid.not_after, default=None)
        names = {id(keeper.svid): keeper.service for keeper in self.identity.keepers.values()}
        return IdentityPart(
            trust_domain=trust.bundle.trust_domain if trust else "",
            roots=len(trust.ids) if trust else 0,
            certificates=len(held),
            missing=sorted(k.service for k in self.identity.keepers.values() if k.svid is None),
            soonest_expiry=soonest.not_after.timestamp() if soonest else 0.0,
            soonest_service=names[id(soonest)] if soonest else "",
            rotating=sorted(k.service for k in self.identity.keepers.values() if trust and _is_rotating(k, trust)),
            revoked=len(trust.revoked) if trust else 0,
        )


def drained_here(snapshot: Snapshot | None) -> tuple[str, ...]:
    """The services of this host that take no new work."""
    local = snapshot.local_by_port.values() if snapshot else ()
    return tuple(sorted({service.name for service, instance in local if instance.drained}))


def one_line(address: str, complaints: Iterable[str], why_lost: str) -> list[str]:
    """The complaints, those of questions that did not reach the catalog at `address` as one: they have one cause.

    why_lost: why it is out of reach now; empty while it answers, and only some questions wait to be asked again.
    """
    base = address.rstrip("/")
    found = list(complaints)
    unreached = [each for each in found if each.startswith(f"{base}/")]
    if len(unreached) < 2:
        return found
    cause = why_lost or unreached[0].partition(": ")[2]
    return [f"{base}: {cause} ({len(unreached)} questions wait)", *(each for each in found if each not in unreached)]


def _worker_part(fact: WorkerFacts, stats: WorkerStats | None, *, has_channel: bool) -> WorkerPart:
    part = WorkerPart(
        number=fact.number, pid=fact.pid, started_at=fact.started_at, restarts=fact.restarts,
        state=fact.state if has_channel or fact.state != "serving" else "no_channel",
        agent_generation=fact.generation, version=fact.version, drain_until=fact.drain_until,
    )  # fmt: skip
    if stats:
        part.generation, part.connections, part.lag_s = stats.generation, stats.connections, stats.lag_s
        part.buffered, part.tunnels, part.tag = stats.buffered, len(stats.tunnels), stats.tag
        part.streams = sum(tunnel.streams for tunnel in stats.tunnels)
    return part


def _service_part(config: Config, snapshot: Snapshot, service: Service) -> ServicePart:
    return ServicePart(
        name=service.name,
        protocol=service.protocol,
        mode=service.mode or snapshot.mesh.mode,
        instances=[_instance_part(config, snapshot, instance) for instance in service.instances if not instance.gone],
        intentions=[_intention_part(intention) for intention in service.intentions],
    )


def _instance_part(config: Config, snapshot: Snapshot, instance: Instance) -> InstancePart:
    host = snapshot.hosts.get(instance.host)
    is_local = instance.host == snapshot.mesh.host
    whys = (why_never_captured(config, address.port) for address in instance.addresses if is_local)
    return InstancePart(
        id=instance.id, host=instance.host, addresses=[str(address) for address in instance.addresses],
        implied=[str(address) for address in implied_addresses(snapshot, instance)],
        healthy=instance.healthy, drained=instance.drained, weight=instance.weight, is_local=is_local, is_meshed=bool(host and host.tunnel_port),
        uncaptured=next(filter(None, whys), ""),
    )  # fmt: skip


def _intention_part(intention: Intention) -> IntentionPart:
    return IntentionPart(source=intention.source, destination=intention.destination, action=intention.word)


def _certificate_part(keeper: Keeper, now: float) -> CertificatePart:
    svid = keeper.svid
    if svid is None:
        return CertificatePart(service=keeper.service, state="missing", error=keeper.error, lost=keeper.lost)
    return CertificatePart(
        service=keeper.service,
        state="valid" if now < svid.not_after.timestamp() else "expired",
        spiffe_id=str(svid.spiffe_id),
        serial=svid.serial,
        not_before=svid.not_before.timestamp(),
        not_after=svid.not_after.timestamp(),
        error=keeper.error,
        root=keeper.root_id,
    )


def _is_rotating(keeper: Keeper, trust: Trust) -> bool:
    return keeper.svid is not None and keeper.root_id != trust.active_id


def _is_ending(keeper: Keeper, now: float) -> bool:
    assert keeper.svid is not None
    begins, ends = keeper.svid.not_before.timestamp(), keeper.svid.not_after.timestamp()
    return ends - now < (ends - begins) * _ENDING
