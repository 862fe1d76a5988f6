"""Where requests of routed services go: chains made ready, instances that take turns, and what a service can bear of retries."""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nodeagent import limits
from nodeagent.decide.chain import Chain, Leg, chain_of
from nodeagent.decide.dispatch import Dispatch, Pick
from nodeagent.decide.hashing import Key, key_of
from nodeagent.decide.match import RequestView
from nodeagent.decide.outbound import Via, decide_outbound
from nodeagent.decide.outlier import Ejection
from nodeagent.decide.path import normalize, path_rules
from nodeagent.decide.retry import Budget
from nodeagent.decide.route import find_destination
from nodeagent.errors import NoInstance
from nodeagent.model.address import Address, OriginalDst
from nodeagent.model.message import RequestHead
from nodeagent.model.policy.own import RetryBudget
from nodeagent.model.service import Instance, Service
from nodeagent.model.snapshot import Snapshot


@dataclass(slots=True)
class Trip:
    """One request's way: what was decided once, and the instance that has it now."""

    leg: Leg
    target: bytes
    """As it goes on."""
    key: Key
    budget: Budget
    pick: Pick | None = None
    tried: set[str] = field(default_factory=set)
    """Instances that failed it."""
    wait_until: float = 0.0
    """For a part of what its caller may have open; 0: it has not waited."""

    def may_wait(self, now: float) -> bool:
        """Whether its time for that is not over."""
        self.wait_until = self.wait_until or now + limits.LEASE_WAIT_S
        return now < self.wait_until


class _Seen(Mapping[str, Service]):
    """Services, and which of them were asked for: what was made from them holds while those are the same."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services
        self.asked: dict[str, Service | None] = {}

    def __getitem__(self, name: str) -> Service:
        self.asked[name] = self._services.get(name)
        return self._services[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str):
            self.asked[name] = self._services.get(name)
        return name in self._services

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        found = self.asked[name] = self._services.get(name)
        return default if found is None else found


class Router:
    """Owned by one worker."""

    def __init__(self, workers: int) -> None:
        """workers: that share the bounds of a caller, and what is allowed of retries in any case."""
        self.dispatch = Dispatch(random.random, workers=workers)
        self._workers = workers
        self._chains: dict[str, tuple[dict[str, Service | None], Chain]] = {}
        self._budgets: dict[str, tuple[RetryBudget | None, Budget]] = {}
        self._vias: dict[tuple[str, str, Address], Via] = {}
        self._vias_of: Snapshot | None = None

    def begin(self, snapshot: Snapshot, service: str, head: RequestHead, client_ip: bytes) -> Trip:
        """The way of a request to a routed service. No instance has it yet.

        Raises:
            NoRoute, AmbiguousPath: it leads nowhere.
        """
        chain = self.chain(snapshot, service)
        target = normalize(head.target, path_rules(snapshot.mesh.normalization)) if chain.reads_path else head.target
        view = RequestView(head, target)
        leg = chain.pick(view, random.random())  # noqa: S311 - no secret
        policies = leg.balancer.hash_policies if leg.balancer else ()
        key = key_of(policies, view, client_ip, _by_chance) if policies else Key(None)
        budget = self.budget(snapshot, leg.target.service)
        budget.count_request(time.monotonic())
        return Trip(leg, leg.rewrite(target) if leg.rewrite else target, key, budget)

    def aim(self, snapshot: Snapshot, source: str, trip: Trip, *, family: int) -> Via:
        """Gives the request to an instance, rather none that failed it before, and says how that is reached.

        family: 4 or 6, of the address that the client dialled: rather one of these.

        Raises:
            NoInstance, BreakerOpen, Denied: there is none for it.
        """
        pick = self.dispatch.take(snapshot, source, trip.leg, time.monotonic(), key=trip.key.value, tried=trip.tried)
        try:
            via = self._via(snapshot, source, pick, family)
        except BaseException:
            self.dispatch.give_back(pick, time.monotonic(), is_failure=False)
            raise
        trip.pick = pick
        return via

    def end(self, trip: Trip, *, is_failure: bool) -> Ejection | None:
        """The instance is done with it, or has failed it; the ejection, where it is left alone for a while now."""
        pick, trip.pick = trip.pick, None
        if pick is None:
            return None
        if is_failure:
            trip.tried.add(pick.name)
        return self.dispatch.give_back(pick, time.monotonic(), is_failure=is_failure)

    def chain(self, snapshot: Snapshot, name: str) -> Chain:
        """Made anew where a service that it leads over is another one."""
        known = self._chains.get(name)
        if known and all(snapshot.services.get(each) is service for each, service in known[0].items()):
            return known[1]
        seen = _Seen(snapshot.services)
        made = chain_of(seen, name, datacenter=snapshot.mesh.datacenter)
        seen.asked[name] = snapshot.services.get(name)
        if name not in self._chains and len(self._chains) >= limits.REQUEST_RULES:
            del self._chains[next(iter(self._chains))]
        self._chains[name] = seen.asked, made
        return made

    def budget(self, snapshot: Snapshot, name: str) -> Budget:
        """Of retries to a service."""
        service = snapshot.services.get(name)
        said = service.traffic.retry_budget if service and service.traffic else None
        known = self._budgets.get(name)
        if known and known[0] == said:
            return known[1]
        if name not in self._budgets and len(self._budgets) >= limits.REQUEST_RULES:
            del self._budgets[next(iter(self._budgets))]
        made = Budget(said, workers=self._workers)
        self._budgets[name] = said, made
        return made

    def _via(self, snapshot: Snapshot, source: str, pick: Pick, family: int) -> Via:
        """The way of a connection to the instance, for as long as the snapshot is the same."""
        if snapshot is not self._vias_of:
            self._vias.clear()
            self._vias_of = snapshot
        service, address = pick.course[1].service, _address(pick.instance, family)
        via = self._vias.get((source, service, address))
        if via is None:
            is_here = pick.instance.host == snapshot.mesh.host
            via = decide_outbound(snapshot, source, find_destination(snapshot, OriginalDst(address), dst_is_local=is_here))
            if via.service != service:
                raise NoInstance(f"{address} is of {via.service or 'no service'}, and {service} has an instance that claims it")
            self._vias[source, service, address] = via
        return via


def _address(instance: Instance, family: int) -> Address:
    """Rather one of that family: a tunnel's ends and the application's are of one."""
    of_family = (address for address in instance.addresses if (":" in address.ip) == (family == 6))
    return next(of_family, instance.addresses[0])


def _by_chance() -> bytes:
    """For a cookie."""
    return b"%032x" % random.getrandbits(128)
