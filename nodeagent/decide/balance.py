"""Which instance takes a request: who of a leg's may at all, and how one of them is picked."""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from nodeagent import limits
from nodeagent.decide.chain import Leg, Target
from nodeagent.decide.hashing import hashed
from nodeagent.errors import NoInstance
from nodeagent.model.policy.resolving import LoadBalancer, RingHash
from nodeagent.model.service import Instance

Draw = Callable[[], float]
"""A number by chance, in [0, 1)."""
Active = Callable[[Instance], int]
"""How many requests an instance has now."""


# --- who may -------------------------------------------------------------------------------------------------------


class Held(Protocol):
    """What is asked of a service here."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All that are registered."""


class Pool(NamedTuple):
    """Instances of which one is picked."""

    target: Target
    instances: tuple[Instance, ...]
    is_stand_in: bool = False
    is_panic: bool = False
    """Whether they are called although they failed just now: nobody else is left."""


def pool_of(services: Mapping[str, Held], leg: Leg, ejected: Callable[[Target, Instance], bool]) -> Pool:
    """The instances for a leg's requests.

    The catalog's word holds always: what it calls unhealthy, what is drained and what is gone takes no request, and none is sent where
    nothing else is left. An ejection is only this agent's own guess. So where it would leave nobody, neither of the target nor of those
    that stand in, all that the catalog calls healthy are tried again.

    Raises:
        NoInstance: nobody is left.
    """
    targets = (leg.target, *leg.stand_ins)
    usable = [_usable(services, target) for target in targets]
    for number, (target, instances) in enumerate(zip(targets, usable, strict=True)):
        rest = tuple(instance for instance in instances if not ejected(target, instance))
        if rest:
            return Pool(target, rest, is_stand_in=number > 0)
    for number, (target, instances) in enumerate(zip(targets, usable, strict=True)):
        if instances:
            return Pool(target, instances, is_stand_in=number > 0, is_panic=True)
    stand_ins = f", nor of what stands in for it: {', '.join(map(str, leg.stand_ins))}" if leg.stand_ins else ""
    raise NoInstance(f"no healthy instance of {leg.target} is known here{stand_ins}")


def is_usable(instance: Instance) -> bool:
    """Whether the catalog has it take new requests; also, where: one may be registered without a port, or at an address that is nobody's here."""
    return instance.healthy and not instance.drained and not instance.gone and instance.weight > 0 and bool(instance.addresses)


def members(services: Mapping[str, Held], target: Target) -> tuple[Instance, ...]:
    """All instances of a target, whether they may or not."""
    service = services.get(target.service)
    found = service.instances if service else ()
    return tuple(instance for instance in found if target.subset in instance.subsets) if target.subset else found


def _usable(services: Mapping[str, Held], target: Target) -> tuple[Instance, ...]:
    return tuple(instance for instance in members(services, target) if is_usable(instance))


# --- how one is picked ---------------------------------------------------------------------------------------------


class Picker(Protocol):
    """Picks of a pool. Owned by one worker, and made anew when the pool changes."""

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:
        """One of them. key: the request's hash; None: it has none."""


def picker_of(said: LoadBalancer | None, instances: Sequence[Instance]) -> Picker:
    """As the entry says; by chance, where it says nothing. instances: at least one."""
    policy = said.policy if said else ""
    if policy == "round_robin":
        return RoundRobin(instances)
    if policy == "least_request":
        config = said.least_request_config if said else None
        return LeastRequest(instances, (config.choice_count if config else 0) or 2)
    if policy == "ring_hash":
        return Ring(instances, (said.ring_hash_config if said else None) or RingHash())
    if policy == "maglev":
        return Maglev(instances)
    return ByChance(instances)


class ByChance:
    """Any of them, by weight."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._instances = tuple(instances)
        self._ends = tuple(accumulate(instance.weight for instance in instances))

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:  # noqa: ARG002 - a Picker
        """By one draw."""
        return self._instances[bisect_right(self._ends, draw() * self._ends[-1], hi=len(self._ends) - 1)]


class RoundRobin:
    """One after the other; whose weight is twice another's comes twice as often, and not twice in a row."""

    def __init__(self, instances: Sequence[Instance]) -> None:
        self._due = [(1 / instance.weight, number, instance) for number, instance in enumerate(instances)]
        heapq.heapify(self._due)
        self._is_begun = False

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:  # noqa: ARG002 - a Picker
        """The one that is due. It begins anywhere: workers that begin together are not to call the same."""
        if not self._is_begun:
            self._is_begun = True
            for _ in range(int(draw() * len(self._due))):
                self._next()
        return self._next()

    def _next(self) -> Instance:
        due, number, instance = self._due[0]
        heapq.heapreplace(self._due, (due + 1 / instance.weight, number, instance))
        return instance


class LeastRequest:
    """The least busy for its weight, of some taken by chance: two are enough, and of all that are told to be idle many would pick one."""

    def __init__(self, instances: Sequence[Instance], choices: int) -> None:
        self._by_chance = ByChance(instances)
        self._choices = min(choices, limits.LEAST_CHOICES)

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:
        """By as many draws as there are choices."""
        best = self._by_chance.pick(draw, active, key)
        for _ in range(self._choices - 1):
            other = self._by_chance.pick(draw, active, key)
            if active(other) * best.weight < active(best) * other.weight:
                best = other
        return best


class Ring:
    """Hashes of the instances on a ring: the next one after a request's hash. Who comes or goes moves its own share alone."""

    def __init__(self, instances: Sequence[Instance], said: RingHash) -> None:
        unit = _points_of_a_weight(instances, said)
        self._by_chance = ByChance(instances)
        ring = sorted(point for instance in instances for point in _points(instance, max(1, int(unit * instance.weight))))
        self._hashes = [value for value, _, _ in ring]
        self._instances = [instance for _, _, instance in ring]

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:
        """By the hash; by chance without one."""
        if key is None:
            return self._by_chance.pick(draw, active, key)
        at = bisect_left(self._hashes, key)
        return self._instances[at if at < len(self._instances) else 0]


def _points_of_a_weight(instances: Sequence[Instance], said: RingHash) -> float:
    """A power of two, so that it is mostly the same when instances come or go: else all of them would move."""
    least = min(said.minimum_ring_size or limits.RING_POINTS_MIN, limits.RING_POINTS_MAX)
    most = min(said.maximum_ring_size or limits.RING_POINTS_MAX, limits.RING_POINTS_MAX)
    total = sum(instance.weight for instance in instances)
    wanted, bound = math.ceil(math.log2(least / total)), math.floor(math.log2(most / total))
    return float(2.0 ** min(wanted, bound))


def _points(instance: Instance, number: int) -> Iterable[tuple[int, bytes, Instance]]:
    name = _name_of(instance)
    return ((hashed(b"%s\0%d" % (name, each)), name, instance) for each in range(number))


class Maglev:
    """A table of places that instances take in turn, each in its own order: even shares, and few moves when one comes or goes.

    Source: Eisenbud et al., Maglev, NSDI 2016, 3.4.
    """

    def __init__(self, instances: Sequence[Instance]) -> None:
        wanted = 100 * len(instances)
        size = next((size for size in limits.MAGLEV_SIZES if size >= wanted), limits.MAGLEV_SIZES[-1])
        self._by_chance = ByChance(instances)
        self._table = _filled(sorted(instances, key=_name_of), size)

    def pick(self, draw: Draw, active: Active, key: int | None) -> Instance:
        """By the hash; by chance without one."""
        return self._by_chance.pick(draw, active, key) if key is None else self._table[key % len(self._table)]


def _filled(instances: Sequence[Instance], size: int) -> list[Instance]:
    """The table. In each round an instance has as many turns as its weight is to the largest."""
    most = max(instance.weight for instance in instances)
    starts = [(hashed(b"o" + _name_of(each)) % size, hashed(b"s" + _name_of(each)) % (size - 1) + 1) for each in instances]
    at, credit = [start for start, _ in starts], [0] * len(instances)
    table: list[Instance | None] = [None] * size
    left = size
    while left:
        for number, instance in enumerate(instances):
            credit[number] += instance.weight
            if credit[number] < most or not left:
                continue
            credit[number] -= most
            place, skip = at[number], starts[number][1]
            while table[place] is not None:
                place = (place + skip) % size
            table[place], at[number] = instance, (place + skip) % size
            left -= 1
    return [each for each in table if each is not None]


def _name_of(instance: Instance) -> bytes:
    return f"{instance.host}\0{instance.id}".encode()
