"""Small catalogs of every kind, for hypothesis: few names, so that everything meets."""

from hypothesis import strategies as st

from nodeagent.catalog.consul_rows import NodeRow, ServiceRow
from nodeagent.catalog.labels import labels_of
from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.model.address import Address
from nodeagent.model.policy.defaults import Normalization, Upstream, UpstreamConfig
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.policy.resolving import ServiceResolver, Subset
from nodeagent.model.policy.routing import Route, RouteDestination, ServiceRouter, ServiceSplitter, Split
from nodeagent.model.policy.values import Duration
from nodeagent.model.service import Host, Instance

_HOSTS = ("host1", "host2", "host3", "host4")
_IPS = ("10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4", "fd77::2", "127.0.0.1")
_SERVICES = ("web", "shop", "cart", "db", "Not a name")

_V1 = labels_of(NodeRow("host1"), ServiceRow(tags=["v1"]), "nodeagent")

hosts = st.builds(
    lambda name, ips, port: Host(name, tuple(sorted(ips)), port),
    st.sampled_from(_HOSTS), st.sets(st.sampled_from(_IPS), max_size=3), st.sampled_from((0, 15008)),
)  # fmt: skip
rows = st.builds(
    lambda host, ips, port, id_, healthy, gone, since, labels, is_warned: InstanceRow(
        Instance(id_, host.name, tuple(Address(ip, port) for ip in sorted(ips)), healthy=healthy, gone=gone), host,
        registered_at=since, labels=labels, is_warned=is_warned,
    ),
    hosts, st.sets(st.sampled_from(_IPS), max_size=2), st.sampled_from((80, 81)), st.sampled_from(("a", "b")), st.booleans(), st.booleans(),
    st.integers(0, 2), st.sampled_from((b"", _V1)), st.booleans(),
)  # fmt: skip
instances = st.dictionaries(st.sampled_from(_SERVICES), st.lists(rows, max_size=3).map(tuple))
_PERMISSIONS = (
    (), (Permission(action="allow", http=PermissionMatch(path_prefix="/a")),), (Permission(action="deny", http=PermissionMatch(methods=("GET",))),),
)  # fmt: skip
intentions = st.lists(
    st.builds(
        lambda source, destination, action, said: IntentionRow(source, destination, "deny" if said else action, permissions=said),
        st.sampled_from(("web", "db", "*")), st.sampled_from(("web", "shop", "*")), st.sampled_from(("allow", "deny")), st.sampled_from(_PERMISSIONS),
    ),
    max_size=4,
).map(tuple)  # fmt: skip
protocols = st.dictionaries(st.sampled_from(_SERVICES), st.sampled_from(("tcp", "http", "odd")), max_size=2)
_SUBSETS = (Subset(), Subset(filter='"v1" in Service.Tags'), Subset(only_passing=True), Subset(filter="Node.Output == 1"))
_KINDS = ("service-router", "service-splitter", "service-resolver", "retry-budget", "mesh")


def _of_some(make, names=("web", "shop", "till")):
    return st.sets(st.sampled_from(names), max_size=2).map(lambda some: {name: make(name) for name in sorted(some)})


def _resolver(name: str, subset: Subset) -> ServiceResolver:
    return ServiceResolver(kind="service-resolver", name=name, subsets={"s": subset}, connect_timeout=Duration(2 * 10**9))


entries = st.fixed_dictionaries({
    "routers": _of_some(lambda name: ServiceRouter(kind="service-router", name=name, routes=(Route(destination=RouteDestination(service="db")),))),
    "splitters": _of_some(lambda name: ServiceSplitter(kind="service-splitter", name=name, splits=(Split(weight=100),))),
    "resolvers": st.dictionaries(st.sampled_from(("web", "db")), st.sampled_from(_SUBSETS), max_size=2).map(
        lambda named: {name: _resolver(name, subset) for name, subset in named.items()}
    ),
    "budgets": _of_some(lambda name: RetryBudget(kind="retry-budget", name=name, ttl=Duration(10**9)), ("web", "*")),
    "upstreams": _of_some(lambda name: UpstreamConfig(defaults=Upstream(connect_timeout_ms=len(name)))),
    "normalization": st.sampled_from((None, Normalization(merge_slashes=True))),
    "unread": st.dictionaries(st.builds("{}/{}".format, st.sampled_from(_KINDS), st.sampled_from(("web", "odd", "*"))), st.just("why"), max_size=2),
})  # fmt: skip
states = st.builds(
    lambda entries, *rest: CatalogState(*rest, **entries),
    entries, st.lists(hosts, max_size=4).map(tuple), instances, intentions, protocols, st.sampled_from(("", "http")), st.booleans(),
)  # fmt: skip
