"""service-router and service-splitter: which service takes a request, by what it asks and by weight."""

from typing import Annotated, Literal

import msgspec

from nodeagent.model.policy.http import RequestMatch
from nodeagent.model.policy.values import (
    Count,
    Duration,
    HeaderEdits,
    Label,
    Meta,
    Name,
    NameOrNone,
    Part,
    Percent,
    Scope,
    Text,
)

RetryOn = Literal[
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
    "refused-stream", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
]  # fmt: skip
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]


class RouteDestination(Part, frozen=True):
    """Where a route leads, and how its requests are treated."""

    service: NameOrNone = ""
    service_subset: Label = ""
    namespace: Scope = ""
    partition: Scope = ""
    prefix_rewrite: Text = ""
    request_timeout: Duration = Duration(0)
    """Of the whole request, retries included; unsaid: Consul's 15 s."""
    idle_timeout: Duration = Duration(0)
    num_retries: Count = 0
    """Unsaid: one, where anything is retried."""
    retry_on_connect_failure: bool = False
    retry_on: tuple[RetryOn, ...] = ()
    retry_on_status_codes: tuple[Status, ...] = ()
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


class Route(Part, frozen=True):
    """Requests that match go to the destination."""

    match: RequestMatch | None = None
    destination: RouteDestination | None = None


class ServiceRouter(Part, frozen=True):
    """The first route that matches decides; without one, the service itself."""

    kind: Literal["service-router"]
    name: Name
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    routes: tuple[Route, ...] = ()


class Split(Part, frozen=True):
    """A share of the requests, in percent."""

    weight: Percent = 0.0
    service: NameOrNone = ""
    service_subset: Label = ""
    namespace: Scope = ""
    partition: Scope = ""
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


class ServiceSplitter(Part, frozen=True):
    """The shares of a service's requests, 100 together."""

    kind: Literal["service-splitter"]
    name: Name
    namespace: Scope = ""
    partition: Scope = ""
    meta: Meta = {}
    splits: tuple[Split, ...] = ()
