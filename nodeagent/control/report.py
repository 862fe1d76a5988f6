"""What the admin API answers, as types: the command line decodes the same ones. Fields are added, never changed."""

from collections.abc import Iterable

import msgspec

from nodeagent import limits
from nodeagent.model.explanation import RequestExplanation, Step
from nodeagent.model.flow import Flow
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.service import Mode

API_VERSION = "nodeagent/v1"
LOGS = "see: journalctl -u nodeagent (in a lab: nodeagent lab agent HOST logs)"


class InterceptionPart(msgspec.Struct, kw_only=True):
    """What the supervisor says about the kernel's rules."""

    state: str
    """`active`, `off`, `failed`, `repaired` or `unknown`."""
    detail: str = ""
    repairs: int = 0
    units: int = 0
    """Units whose connections are stamped."""
    addresses: int = 0
    """Addresses that the catalog wants captured."""
    ports: int = 0
    bypassed: int = 0
    """Connections that went around the agent while it was dead."""


class SupervisorPart(msgspec.Struct, kw_only=True):
    """The supervisor, as it spoke last."""

    pid: int
    version: str
    started_at: float
    heard_s: float
    """Seconds since its last word; it speaks once a second."""
    generation: int = 1
    """One more with each reload since it was started."""
    reloads_refused: int = 0
    """How often this generation refused a reload."""
    reload_refused: str = ""
    """Why the last time."""
    configured_at: float = 0.0
    """Unix seconds since which its configuration is in force: a file that was written later is not."""
    control_stalls: int = 0
    """How often it has seen control hang, or too busy to read for some seconds: no changes are heard then, and nobody answers here."""
    control_stalled_at: float = 0.0
    """Unix seconds at which it saw that last; 0: never."""


class WorkerPart(msgspec.Struct, kw_only=True):
    """One worker."""

    number: int
    pid: int
    state: str
    """`starting`, `standby` (a spare), `opening`, `serving`, `draining`, `dead`, or `no_channel` where it does not talk to control."""
    started_at: float
    restarts: int
    generation: int = 0
    connections: int = 0
    tunnels: int = 0
    streams: int = 0
    lag_s: float = 0.0
    buffered: int = 0
    agent_generation: int = 1
    """Which of the agent's generations it belongs to; `generation` is that of its snapshot."""
    version: str = ""
    drain_until: float = 0.0
    """Unix seconds at which what it still carries is closed; 0: no such moment is set."""
    tag: str = ""
    """What ids of its connections begin with."""


class GenerationPart(msgspec.Struct, kw_only=True):
    """The workers that one start or reload of the agent has brought."""

    generation: int
    version: str
    workers: int
    started_at: float
    connections: int
    drain_until: float
    """Unix seconds at which its last connections are closed; 0: it serves."""


CONSUL_AGENT = "this host's Consul agent"
"""In `CatalogPart.found`: what the catalog is."""


class CatalogPart(msgspec.Struct, kw_only=True):
    """Where the mesh's description comes from and how old it is."""

    address: str
    connected: bool
    source: str
    """`catalog`, `saved` or `none`."""
    generation: int
    age_s: float
    """Seconds since the catalog last confirmed what is in force."""
    error: str = ""
    services: int = 0
    hosts: int = 0
    found: list[str] = []
    """What was found out about it by asking, where it is another than the embedded one."""


class IdentityPart(msgspec.Struct, kw_only=True):
    """Roots and certificates in a few numbers."""

    trust_domain: str
    roots: int
    certificates: int
    missing: list[str]
    """Services of this host without a certificate."""
    soonest_expiry: float = 0.0
    """Unix seconds; 0: there is none."""
    soonest_service: str = ""
    rotating: list[str] = []
    """Services whose certificates are of another root than the one that signs now."""
    revoked: int = 0
    """Tokens whose certificates are refused."""


class Status(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/status."""

    api_version: str = API_VERSION
    host: str
    datacenter: str
    mode: str
    version: str
    control_pid: int
    control_started_at: float
    healthy: bool
    problems: list[str]
    """What makes it unhealthy: somebody must act."""
    warnings: list[str]
    supervisor: SupervisorPart | None
    interception: InterceptionPart
    workers: list[WorkerPart]
    generations: list[GenerationPart] = []
    """The youngest first."""
    catalog: CatalogPart
    identity: IdentityPart


class ConnectionsAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/connections."""

    api_version: str = API_VERSION
    connections: list[ConnectionRow]
    total: int
    """How many there are; more than `connections` when the limit was reached."""
    unanswered: int = 0
    """Workers that did not answer in time."""


class InstancePart(msgspec.Struct, kw_only=True):
    """One registered instance, as this host sees it."""

    id: str
    host: str
    addresses: list[str]
    """As it was registered."""
    healthy: bool
    is_local: bool
    is_meshed: bool
    """Its host runs an agent."""
    implied: list[str] = []
    """Where it is met besides: its host's agent takes the port at each address."""
    drained: bool = False
    """It takes no new work."""
    weight: int = 1
    """The share of what is balanced that it gets, among its service's: the catalog's, by its health."""
    uncaptured: str = ""
    """Why calls to it go past the agent of this host, where they do: then no mode and no intention protects it."""


class IntentionPart(msgspec.Struct, kw_only=True):
    """One intention towards a service."""

    source: str
    destination: str
    action: str
    """`allow`, `deny` or `by request`."""


class ServicePart(msgspec.Struct, kw_only=True):
    """One service."""

    name: str
    protocol: str
    mode: str
    """In force for it on this host."""
    instances: list[InstancePart]
    intentions: list[IntentionPart]


class ServicesAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/services: what this agent holds, not what was written to the catalog."""

    api_version: str = API_VERSION
    generation: int
    services: list[ServicePart]
    wildcards: list[IntentionPart]
    """Intentions towards every service."""


class CertificatePart(msgspec.Struct, kw_only=True):
    """One certificate, or the lack of one. No key material."""

    service: str
    state: str
    """`valid`, `expired` or `missing`."""
    spiffe_id: str = ""
    serial: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    error: str = ""
    """Why the last request to the CA failed."""
    root: str = ""
    """Id of the root above it."""
    lost: str = ""
    """What became of the last one, where there is none."""


class CertsAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/certs."""

    api_version: str = API_VERSION
    trust_domain: str
    roots: list[str]
    """Ids of the roots that are believed."""
    active_root: str
    certificates: list[CertificatePart]
    revoked: list[str] = []
    """How the serials of certificates begin that are refused, whoever shows them."""


class ModePart(msgspec.Struct, kw_only=True):
    """The mode of the host, or of one service."""

    service: str
    """Empty: the host's, for every service without one of its own."""
    mode: str
    configured: str = ""
    """What the file says; empty: nothing."""
    switched_by: str = ""
    """Who switched it while the agent ran; empty: nobody, it is the file's."""
    switched_at: float = 0.0


class ModesAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET and POST /v1/modes."""

    api_version: str = API_VERSION
    modes: list[ModePart]
    """The host's first."""


class SwitchMode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/modes."""

    mode: Mode | None
    """None: back to what the file says."""
    service: str = ""
    """Empty: the host."""


class FlowPart(msgspec.Struct, kw_only=True):
    """A recorded flow, and what would be said to it."""

    flow: Flow
    times: int
    last_at: float
    reason: str
    error: str
    hint: str = ""


class CheckAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/enforce."""

    api_version: str = API_VERSION
    service: str
    mode: str
    """In force now."""
    proposed: str
    flows: int
    """How many were looked at."""
    since: float
    """Unix seconds of the oldest of them; 0: there is none."""
    refused: list[FlowPart]
    """Those that `proposed` would refuse, the most frequent first."""
    cut: list[FlowPart] = []
    """Open connections that `proposed` would end: new ones like them may pass."""
    bare: list[FlowPart] = []
    """Those that `proposed` would take out of their tunnels: refused where the callee's host or service is strict."""
    unanswered: int = 0
    """Workers that did not tell their open connections in time."""
    within_s: float = limits.FLOW_AGE_S
    """Flows that were seen last before so many seconds were not looked at."""
    superseded: list[FlowPart] = []
    """Clear text that `proposed` would refuse, from hosts that began to call by tunnel after it was seen last: no longer done so."""
    also: list[ModePart] = []
    """Services whose mode the reset of the host takes back with it, as they would be."""
    changed: bool = False
    """A question changes nothing."""


class WhyAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/why."""

    api_version: str = API_VERSION
    source: str
    """Empty: an unidentified workload."""
    destination: str
    address: str
    generation: int
    """Of the snapshot that answers."""
    steps: list[Step]
    passes: bool
    """Of a connection that there was: whether it passed."""
    passes_now: bool | None = None
    """Of a connection that there was: whether it would pass now; None: no such call can be decided here."""
    connection: ConnectionRow | None = None
    """As it was recorded, where one was asked for."""


class RouteAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """GET /v1/route."""

    api_version: str = API_VERSION
    explanation: RequestExplanation


class ErrorAnswer(msgspec.Struct, kw_only=True, rename={"api_version": "apiVersion"}):
    """Any answer that is not a 200."""

    api_version: str = API_VERSION
    error: str


def the_first(alarms: Iterable[str]) -> list[str]:
    """ALARMS_SHOWN of what an answer would name one by one, and how many more there are."""
    found = list(alarms)
    more = len(found) - limits.ALARMS_SHOWN
    return found if more < 2 else [*found[: limits.ALARMS_SHOWN], f"and {more} more like these; {LOGS}"]
