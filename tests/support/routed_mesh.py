"""The mesh of `tests.support.mesh` with entries about requests: web and api speak http, web's instances have versions."""

from dataclasses import replace

import msgspec

from nodeagent.model.intention import Intention
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, RequestMatch
from nodeagent.model.policy.intentions import Permission, PermissionMatch
from nodeagent.model.policy.resolving import Subset
from nodeagent.model.policy.routing import Route
from nodeagent.model.service import Service
from nodeagent.model.snapshot import Snapshot
from nodeagent.model.traffic import Traffic
from tests.support.mesh import mesh
from tests.support.routes import instance, resolver, router, split, splitter, to

CANARY = RequestMatch(http=HttpMatch(header=(HeaderMatch(name="x-canary", exact="1"),)))
API = RequestMatch(http=HttpMatch(path_prefix="/api/"))
SUBSETS = {"v1": Subset(filter="Service.Meta.version == v1"), "v2": Subset(filter="Service.Meta.version == v2")}
NO_ADMIN = (
    Permission(action="deny", http=PermissionMatch(path_prefix="/admin")),
    Permission(action="allow", http=PermissionMatch(methods=("GET",))),
)

WEB = Traffic(
    router=router(
        "web", Route(match=CANARY, destination=to(service_subset="v2")), Route(match=API, destination=to("api", prefix_rewrite="/"))
    ).router,
    splitter=splitter("web", split(90, service_subset="v1"), split(10, service_subset="v2")).splitter,
    resolver=resolver("web", subsets=SUBSETS).resolver,
)  # fmt: skip
INSTANCES = (
    instance(1, subsets=("v1",)),
    instance(2, subsets=("v1",), healthy=False),
    instance(3, subsets=("v2",), drained=True),
    instance(4, subsets=("v2",), weight=5),
)


def routed_mesh(**facts) -> Snapshot:
    """shop may GET what is not below /admin of web, and all of api; facts: others of the service web."""
    made = mesh()
    rows = (Intention("shop", "web", "deny", NO_ADMIN),)
    web = Service("web", "http", INSTANCES, rows, traffic=WEB)
    api = Service("api", "http", (instance(9),), (Intention("shop", "api", "allow"),))
    return replace(made, services={**made.services, "web": msgspec.structs.replace(web, **facts), "api": api})
