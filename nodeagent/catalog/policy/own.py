"""Our own kinds: copies that go elsewhere, faults that do something, limits that bound."""

from collections.abc import Iterator

from nodeagent.catalog.policy.faults import Fault, below
from nodeagent.catalog.policy.requests import match_faults
from nodeagent.model.policy.own import Bucket, Injection, Mirror, RateLimit, RetryBudget, SourceBucket
from nodeagent.model.policy.own import Fault as FaultEntry


def mirror_faults(entry: Mirror) -> Iterator[Fault]:
    """What is wrong with a mirror entry, beyond its shape."""
    if not entry.copies:
        yield Fault("Copies", "give at least one")
    for number, copy in enumerate(entry.copies):
        path = below("Copies", number)
        if copy.service == entry.name and not copy.service_subset:
            yield Fault(below(path, "Service"), "is the service itself, which would answer twice")
        yield from match_faults(copy.match, below(path, "Match"))


def fault_faults(entry: FaultEntry) -> Iterator[Fault]:
    """What is wrong with a fault entry, beyond its shape."""
    if not entry.injections:
        yield Fault("Injections", "give at least one")
    for number, injection in enumerate(entry.injections):
        yield from _injection_faults(injection, below("Injections", number))


def budget_faults(entry: RetryBudget) -> Iterator[Fault]:
    """What is wrong with a retry-budget entry, beyond its shape."""
    if (entry.ratio, entry.min_per_second, entry.ttl, entry.max_body_bytes) == (None, None, 0, None):
        yield Fault("", "says nothing: give Ratio, MinPerSecond, TTL or MaxBodyBytes")


def rate_faults(entry: RateLimit) -> Iterator[Fault]:
    """What is wrong with a rate-limit entry, beyond its shape."""
    if not (entry.total or entry.per_source or entry.overrides or entry.connections_per_second):
        yield Fault("", "says nothing: give Total, PerSource, Overrides or ConnectionsPerSecond")
    for path, bucket in (("Total", entry.total), ("PerSource", entry.per_source)):
        if bucket is not None:
            yield from _bucket_faults(bucket, path)
    seen: set[str] = set()
    for number, override in enumerate(entry.overrides):
        path = below("Overrides", number)
        yield from _bucket_faults(override, path)
        if not override.sources:
            yield Fault(below(path, "Sources"), "give at least one; for all there is PerSource")
        for name in sorted(seen & set(override.sources)):
            yield Fault(below(path, "Sources"), f"{name} stands in an earlier one, too")
        seen |= set(override.sources)


def _injection_faults(injection: Injection, path: str) -> Iterator[Fault]:
    abort = injection.abort
    if abort is None and not injection.delay and not injection.response_bytes_per_second:
        yield Fault(path, "does nothing: give Abort, Delay or ResponseBytesPerSecond")
    if abort is not None and (abort.http_status is None) == (abort.grpc_status is None):
        yield Fault(below(path, "Abort"), "give exactly one of HTTPStatus and GRPCStatus")
    yield from match_faults(injection.match, below(path, "Match"))


def _bucket_faults(bucket: Bucket | SourceBucket, path: str) -> Iterator[Fault]:
    if not bucket.requests_per_second and bucket.burst:
        yield Fault(path, "Burst needs RequestsPerSecond above 0; 0 alone refuses every request")
