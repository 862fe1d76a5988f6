"""service-resolver: which instances are meant by a service, what stands in for it, and how one is picked."""

from typing import Literal

import msgspec

from nodeagent.model.policy.values import Count, Duration, Label, Meta, Name, NameOrNone, Part, Scope, Text


class Subset(Part, frozen=True):
    """Instances that pass a filter."""

    filter: Text = ""
    only_passing: bool = False


class Redirect(Part, frozen=True):
    """Another service is meant instead."""

    service: NameOrNone = ""
    service_subset: Label = ""
    namespace: Scope = ""
    partition: Scope = ""
    datacenter: Text = ""
    peer: Text = ""
    sameness_group: Text = ""


class FailoverTarget(Part, frozen=True):
    """One that stands in."""

    service: NameOrNone = ""
    service_subset: Label = ""
    namespace: Scope = ""
    partition: Scope = ""
    datacenter: Text = ""
    peer: Text = ""


class FailoverPolicy(Part, frozen=True):
    """In which order those that stand in are taken."""

    mode: Literal["", "sequential", "order-by-locality"] = ""
    regions: tuple[Text, ...] = ()


class Failover(Part, frozen=True):
    """Who stands in when no instance is healthy."""

    service: NameOrNone = ""
    service_subset: Label = ""
    namespace: Scope = ""
    partition: Scope = ""
    datacenters: tuple[Text, ...] = ()
    targets: tuple[FailoverTarget, ...] = ()
    sameness_group: Text = ""
    policy: FailoverPolicy | None = None


class LeastRequest(Part, frozen=True):
    """Of how many, taken by chance, the least busy one is picked."""

    choice_count: Count = 0


class RingHash(Part, frozen=True):
    """How large the ring of hashes is."""

    minimum_ring_size: Count = 0
    maximum_ring_size: Count = 0


class Cookie(Part, frozen=True):
    """A cookie that is made where a request has none."""

    session: bool = False
    ttl: Duration = msgspec.field(name="TTL", default=Duration(0))
    path: Text = ""


class HashPolicy(Part, frozen=True):
    """What of a request is hashed."""

    field: Literal["", "header", "cookie", "query_parameter"] = ""
    field_value: Text = ""
    cookie_config: Cookie | None = None
    source_ip: bool = msgspec.field(name="SourceIP", default=False)
    terminal: bool = False


class LoadBalancer(Part, frozen=True):
    """How one instance is picked."""

    policy: Literal["", "random", "round_robin", "least_request", "ring_hash", "maglev"] = ""
    least_request_config: LeastRequest | None = None
    ring_hash_config: RingHash | None = None
    hash_policies: tuple[HashPolicy, ...] = ()


class Locality(Part, frozen=True):
    """Whether near instances come first."""

    mode: Literal["", "none", "failover"] = ""


class ServiceResolver(Part, frozen=True):
    """What a service's name leads to."""

    kind: Literal["service-resolver"]
    name: Name
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    default_subset: Label = ""
    subsets: dict[Label, Subset] = {}
    redirect: Redirect | None = None
    failover: dict[Text, Failover] = {}
    """By subset; `*` is for all others."""
    connect_timeout: Duration = Duration(0)
    request_timeout: Duration = Duration(0)
    load_balancer: LoadBalancer | None = None
    prioritize_by_locality: Locality | None = None
