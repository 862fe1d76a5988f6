"""Services with entries, as chains and balancers ask them; instances in a few words."""

from dataclasses import dataclass

from nodeagent.model.address import Address
from nodeagent.model.policy.resolving import ServiceResolver
from nodeagent.model.policy.routing import Route, RouteDestination, ServiceRouter, ServiceSplitter, Split
from nodeagent.model.service import Instance, Protocol
from nodeagent.model.traffic import Traffic


@dataclass(frozen=True)
class Routed:
    """A service."""

    traffic: Traffic | None = None
    protocol: Protocol = "http"
    instances: tuple[Instance, ...] = ()


def router(name: str, *routes: Route) -> Traffic:
    return Traffic(router=ServiceRouter(kind="service-router", name=name, routes=routes))


def splitter(name: str, *splits: Split) -> Traffic:
    return Traffic(splitter=ServiceSplitter(kind="service-splitter", name=name, splits=splits))


def resolver(name: str, **said) -> Traffic:
    return Traffic(resolver=ServiceResolver(kind="service-resolver", name=name, **said))


def split(weight: float, service: str = "", **said) -> Split:
    return Split(weight=weight, service=service, **said)


def to(service: str = "", **said) -> RouteDestination:
    return RouteDestination(service=service, **said)


def instance(number: int, *, weight: int = 1, host: str = "", **facts) -> Instance:
    """`i1` on `h1`, at 10.0.0.1:80."""
    return Instance(f"i{number}", host or f"h{number}", (Address(f"10.0.{number // 250}.{number % 250 + 1}", 80),), weight=weight, **facts)
