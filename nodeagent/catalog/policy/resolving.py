"""service-resolver: subsets that exist, one way to stand in, hashes where something is hashed."""

from collections.abc import Iterator

from nodeagent import limits
from nodeagent.catalog.bexpr import BadFilter, parse_filter
from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.model.intention import ANY
from nodeagent.model.policy.resolving import Failover, HashPolicy, LoadBalancer, Redirect, ServiceResolver

_HASHING = ("ring_hash", "maglev")
_RING_MAX = 8 * 1024 * 1024  # as Envoy


def resolver_faults(entry: ServiceResolver) -> Iterator[Fault]:
    """What is wrong with a service-resolver entry, beyond its shape."""
    if len(entry.subsets) > limits.SUBSETS:
        yield Fault("Subsets", f"has {len(entry.subsets)}, and may have {limits.SUBSETS}")
        return
    for name, each in entry.subsets.items():
        if not name:
            yield Fault("Subsets", "a subset needs a name")
        yield from _filter_faults(each.filter, below(below("Subsets", name), "Filter"))
    if entry.default_subset and entry.default_subset not in entry.subsets:
        yield Fault("DefaultSubset", _no_subset(entry, entry.default_subset))
    if entry.redirect is not None:
        yield from _redirect_faults(entry.redirect, entry)
    for subset, failover in entry.failover.items():
        path = below("Failover", subset)
        if subset != ANY and subset not in entry.subsets:
            yield Fault(path, f"{_no_subset(entry, subset)}; {ANY} is for all")
        yield from _failover_faults(failover, path, entry)
    if entry.load_balancer is not None:
        yield from _balancer_faults(entry.load_balancer, "LoadBalancer")


def resolver_doubts(entry: ServiceResolver) -> Iterator[Fault]:
    """What can be kept and is hardly meant."""
    if entry.redirect is not None and (entry.subsets or entry.failover or entry.default_subset):
        yield Fault("Redirect", "what else the entry says is not looked at: another service is meant")


def _filter_faults(text: str, path: str) -> Iterator[Fault]:
    try:
        if text:
            parse_filter(text)
    except BadFilter as error:
        yield Fault(path, f"not an expression: {error}")


def _redirect_faults(redirect: Redirect, entry: ServiceResolver) -> Iterator[Fault]:
    if redirect == Redirect():
        yield Fault("Redirect", "is empty: give a Service")
    elif redirect.service_subset and not redirect.service:
        yield Fault("Redirect.ServiceSubset", "needs a Service")
    elif redirect.service == entry.name and not (redirect.service_subset or redirect.datacenter or redirect.peer):
        yield Fault("Redirect.Service", "leads to the service itself")
    if sum(map(bool, (redirect.peer, redirect.datacenter, redirect.sameness_group))) > 1:
        yield Fault("Redirect", "at most one of Peer, Datacenter and SamenessGroup")


def _failover_faults(failover: Failover, path: str, entry: ServiceResolver) -> Iterator[Fault]:
    by_name = bool(failover.service or failover.service_subset or failover.datacenters)
    ways = (by_name, bool(failover.targets), bool(failover.sameness_group))
    if sum(ways) != 1:
        yield Fault(path, "needs one of: Service, ServiceSubset and Datacenters together; Targets; SamenessGroup")
    for number, datacenter in enumerate(failover.datacenters):
        if not datacenter:
            yield Fault(below(below(path, "Datacenters"), number), "is empty")
    if failover.service in ("", entry.name):
        yield from _subset_fault(failover.service_subset, below(path, "ServiceSubset"), entry)
    for number, target in enumerate(failover.targets):
        at = below(below(path, "Targets"), number)
        if target.peer and (target.datacenter or target.service_subset):
            yield Fault(at, "Peer goes with neither Datacenter nor ServiceSubset")
        if target.service in ("", entry.name) and not target.peer:
            yield from _subset_fault(target.service_subset, below(at, "ServiceSubset"), entry)


def _subset_fault(subset: str, path: str, entry: ServiceResolver) -> Iterator[Fault]:
    if subset and subset not in entry.subsets:
        yield Fault(path, _no_subset(entry, subset))


def _no_subset(entry: ServiceResolver, subset: str) -> str:
    return f"{subset[:80]!r} is none of the Subsets ({', '.join(entry.subsets) or 'there are none'})"


def _balancer_faults(balancer: LoadBalancer, path: str) -> Iterator[Fault]:
    policy, ring = balancer.policy, balancer.ring_hash_config
    if balancer.least_request_config is not None and policy != "least_request":
        yield Fault(below(path, "LeastRequestConfig"), "needs the Policy least_request")
    if ring is not None and policy != "ring_hash":
        yield Fault(below(path, "RingHashConfig"), "needs the Policy ring_hash")
    if ring is not None and not ring.minimum_ring_size <= (ring.maximum_ring_size or _RING_MAX) <= _RING_MAX:
        yield Fault(below(path, "RingHashConfig"), f"MinimumRingSize is at most MaximumRingSize, and that at most {_RING_MAX}")
    if balancer.hash_policies and policy not in _HASHING:
        yield Fault(below(path, "HashPolicies"), f"need the Policy {' or '.join(_HASHING)}")
    for number, hashed in enumerate(balancer.hash_policies):
        yield from _hash_faults(hashed, below(below(path, "HashPolicies"), number))


def _hash_faults(hashed: HashPolicy, path: str) -> Iterator[Fault]:
    cookie = hashed.cookie_config
    if hashed.source_ip and (hashed.field or hashed.field_value):
        yield Fault(path, "SourceIP goes with no Field")
    if not hashed.source_ip and not (hashed.field and hashed.field_value):
        yield Fault(path, "needs Field and FieldValue, or SourceIP")
    if cookie is not None and hashed.field != "cookie":
        yield Fault(below(path, "CookieConfig"), "needs the Field cookie")
    if cookie is not None and cookie.session and cookie.ttl:
        yield Fault(below(path, "CookieConfig"), "Session and TTL are both set: a session's cookie has no end")
