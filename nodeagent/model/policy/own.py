"""Our own kinds, for what Consul's cannot say: mirror, fault, retry-budget, rate-limit."""

from typing import Annotated, Literal

import msgspec

from nodeagent.model.policy.http import RequestMatch
from nodeagent.model.policy.values import Count, Duration, Label, Meta, Name, NameOrAny, Part, Percent, Rate

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Copy(Part, frozen=True):
    """Requests that match are sent to another service, too, whose answers nobody sees."""

    service: Name
    service_subset: Label = ""
    percent: Percent | None = None
    """Unsaid: all of them."""
    match: RequestMatch | None = None


class Mirror(Part, frozen=True):
    """Copies of a service's requests; the first that matches is made."""

    kind: Literal["mirror"]
    name: Name
    meta: Meta = {}
    copies: tuple[Copy, ...] = ()


class Abort(Part, frozen=True):
    """An answer instead of the application's."""

    http_status: Annotated[int, msgspec.Meta(ge=200, le=599)] | None = msgspec.field(name="HTTPStatus", default=None)
    grpc_status: Annotated[int, msgspec.Meta(ge=0, le=16)] | None = msgspec.field(name="GRPCStatus", default=None)


class Injection(Part, frozen=True):
    """What goes wrong with requests that match."""

    sources: tuple[NameOrAny, ...] = ()
    """Empty: whoever calls."""
    match: RequestMatch | None = None
    percent: Percent | None = None
    """Unsaid: all of them."""
    abort: Abort | None = None
    delay: Duration = Duration(0)
    response_bytes_per_second: Count = 0


class Fault(Part, frozen=True):
    """Failures of a service that are wanted, for a rehearsal; the first that matches happens."""

    kind: Literal["fault"]
    name: Name
    meta: Meta = {}
    injections: tuple[Injection, ...] = ()


class RetryBudget(Part, frozen=True):
    """How many of a service's requests may be retries; `*`: of each that has none of its own."""

    kind: Literal["retry-budget"]
    name: NameOrAny
    meta: Meta = {}
    ratio: Ratio | None = None
    """Retries to requests; unsaid: 0.2, as Finagle and Envoy."""
    min_per_second: Rate | None = None
    """Retries that are allowed in any case; unsaid: 3."""
    ttl: Duration = msgspec.field(name="TTL", default=Duration(0))
    """How long a request counts; unsaid: 10 s."""
    max_body_bytes: Count | None = None
    """A request with a longer body is not retried; unsaid: 64 KiB."""


class Bucket(Part, frozen=True):
    """So many a second, and so many at once."""

    requests_per_second: Rate
    burst: Count = 0
    """Unsaid: what a second has, at least one."""


class SourceBucket(Part, frozen=True):
    """The same for callers of these services."""

    sources: tuple[Name, ...]
    requests_per_second: Rate
    burst: Count = 0


class RateLimit(Part, frozen=True):
    """How many requests a service takes: of all callers together, and of each identity."""

    kind: Literal["rate-limit"]
    name: Name
    meta: Meta = {}
    total: Bucket | None = None
    per_source: Bucket | None = None
    overrides: tuple[SourceBucket, ...] = ()
    """Instead of PerSource, for those whom they name."""
    connections_per_second: Rate = 0.0
    """New connections of all callers together; unsaid: no limit."""
